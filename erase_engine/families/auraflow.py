"""AuraFlow and what is made of it, such as Pony V7: joint blocks, then single ones, guided."""

from __future__ import annotations

from .family import BlockList, ComfyText, Family, NetLayout, TargetSet

TEXT_IN = "context_embedder"
_TEXT_QK = ("add_q_proj", "add_k_proj")
_TEXT = (*_TEXT_QK, "add_v_proj", "to_add_out")


def _attention(*layers: str) -> tuple[str, ...]:
    return tuple(f"joint_transformer_blocks.{{}}.attn.{layer}" for layer in layers)


AURAFLOW = Family(
    name="AuraFlow",
    models="AuraFlow or Pony V7",
    architecture="auraflow",
    version="auraflow",
    comfy=NetLayout(
        classes=frozenset({"AuraFlow"}),
        blocks=(
            BlockList("double_layers", ("c", "x"), (0, 1), joint=True, kind="double"),
            BlockList("single_layers", ("cx",), (0,), kind="single"),
        ),
        size=lambda net: (net.cond_seq_linear.out_features, net.double_layers[0].attn.n_heads),
        refusal=lambda net: "",
        registers=lambda net: net.register_tokens.shape[1],
        cfg=lambda net: True,
    ),
    diffusers=None,
    targets={
        "text_in": TargetSet((), (TEXT_IN,)),
        "text_in_pooled": TargetSet(_attention(*_TEXT), (TEXT_IN,)),
        "text_qk": TargetSet(_attention(*_TEXT_QK)),
        "dual_qk": TargetSet(_attention(*_TEXT_QK, "to_q", "to_k")),
        "text_all": TargetSet(_attention(*_TEXT)),
        "all_attention": TargetSet(_attention(*_TEXT, "to_q", "to_k", "to_v", "to_out.0")),
    },
    entrances={TEXT_IN: "text"},
    texts=(
        ComfyText(
            words=((("pile_t5xl", "pile_t5xl"),),),
            loader="CLIPLoader",
            tokenizer="AuraT5Tokenizer",
        ),
    ),
)
