"""AuraFlow and what is made of it, such as Pony V7: joint blocks, then single ones, guided."""

from __future__ import annotations

from . import joint
from .family import BlockList, ComfyText, Family, NetLayout

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
    targets=joint.targets("context_embedder", "joint_transformer_blocks"),
    entrances=joint.ENTRANCES,
    texts=(
        ComfyText(
            words=((("pile_t5xl", "pile_t5xl"),),),
            loader="CLIPLoader",
            tokenizer="AuraT5Tokenizer",
        ),
    ),
)
