"""Stable Diffusion 3 and 3.5: joint blocks alone, three text encoders, guided by samplers."""

from __future__ import annotations

from typing import Any

from .family import BlockList, ComfyText, Family, NetLayout
from .joint import ENTRANCES, TARGETS

_CLIP, _T5 = (("l", "clip_l"), ("g", "clip_g")), (("t5xxl", "t5xxl"),)


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
    texts=(
        ComfyText(
            words=(_CLIP, _T5),
            pooled=_CLIP,
            loader="TripleCLIPLoader, or DualCLIPLoader of type sd3",
        ),
    ),
    cfg=lambda net: True,
)
