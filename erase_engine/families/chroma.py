"""Chroma: FLUX.1's blocks without a pooled text vector, guided by samplers."""

from __future__ import annotations

from .family import ComfyText, Family, NetLayout
from .flux import BLOCKS
from .joint import ENTRANCES, TARGETS

CHROMA = Family(
    name="Chroma",
    models="Chroma",
    comfy=NetLayout(
        classes=frozenset({"Chroma"}),
        blocks=BLOCKS,
        size=lambda net: (net.hidden_size, net.num_heads),
        refusal=lambda net: "",
    ),
    diffusers=None,
    targets=TARGETS,
    entrances=ENTRANCES,
    texts=(
        ComfyText(
            words=((("t5xxl", "t5xxl"),),),
            loader="CLIPLoader, type chroma",
            tokenizer="PixArtTokenizer",
        ),
    ),
    cfg=lambda net: True,
)
