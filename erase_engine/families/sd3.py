"""Stable Diffusion 3 and 3.5: joint blocks alone, three text encoders, guided by samplers."""

from __future__ import annotations

from typing import Any

from ..interfaces import Entering
from .family import BlockList, Family, NetLayout, TargetSet

_TEXT_QK = ("add_q_proj", "add_k_proj")
_TEXT = (*_TEXT_QK, "add_v_proj", "to_add_out")
_POOLED = ("time_text_embed.text_embedder.linear_1", "time_text_embed.text_embedder.linear_2")
_CLIP, _T5 = (("l", "clip_l"), ("g", "clip_g")), (("t5xxl", "t5xxl"),)


def _attention(*layers: str) -> tuple[str, ...]:
    return tuple(f"transformer_blocks.{{}}.attn.{layer}" for layer in layers)


ENTRANCES: dict[str, Entering] = {"context_embedder": "text", _POOLED[0]: "pooled"}
# The last block gives no text on: it has no layers for it, which the model then leaves out.
TARGETS = {
    "text_in": TargetSet((), tuple(ENTRANCES)),
    "text_in_pooled": TargetSet(_attention(*_TEXT), ("context_embedder", *_POOLED)),
    "text_qk": TargetSet(_attention(*_TEXT_QK)),
    "dual_qk": TargetSet(_attention(*_TEXT_QK, "to_q", "to_k")),
    "text_all": TargetSet(_attention(*_TEXT)),
    "text_pooled": TargetSet(_attention(*_TEXT), _POOLED),
    "all_attention": TargetSet(_attention(*_TEXT, "to_q", "to_k", "to_v", "to_out.0")),
}


def _refused_by_comfy(net: Any) -> str:
    if net.in_channels != net.out_channels:
        return f"an SD3 with {net.in_channels} channels in and {net.out_channels} out"
    if net.context_processor is not None or net.register_length or net.y_embedder is None:
        return "an SD3 variant whose text enters another way"
    return ""


SD3 = Family(
    name="SD3",
    models="Stable Diffusion 3 or 3.5 (medium or large)",
    comfy=NetLayout(
        classes=frozenset({"SD3"}),
        blocks=(BlockList("joint_blocks", ("context", "x"), (0, 1), joint=True, kind="double"),),
        size=lambda net: (net.hidden_size, net.num_heads),
        refusal=_refused_by_comfy,
    ),
    diffusers=None,
    targets=TARGETS,
    entrances=ENTRANCES,
    words=(_CLIP, _T5),
    pooled=_CLIP,
    text_loader="TripleCLIPLoader, or DualCLIPLoader of type sd3",
    cfg=True,
)
