"""Qwen-Image: joint blocks alone, text of a language model, latents with a frame, guided."""

from __future__ import annotations

from typing import Any

from .family import ComfyText, Family, NetLayout
from .joint import BLOCKS, entrances, targets

TEXT_IN = "txt_in"


def _refused(net: Any) -> str:
    layered = getattr(net.time_text_embed, "use_additional_t_cond", False)
    if layered or getattr(net, "default_ref_method", "index") != "index":
        return "a Qwen-Image that edits pictures or draws layers"
    return ""


QWEN_IMAGE = Family(
    name="Qwen-Image",
    models="Qwen-Image",
    comfy=NetLayout(
        classes=frozenset({"QwenImage"}),
        blocks=(BLOCKS,),
        size=lambda net: (net.inner_dim, net.transformer_blocks[0].num_attention_heads),
        refusal=_refused,
        norms={TEXT_IN: "txt_norm"},
    ),
    diffusers=None,
    targets=targets(TEXT_IN),
    entrances=entrances(TEXT_IN),
    texts=(
        ComfyText(
            words=((("qwen25_7b", "qwen25_7b"),),),
            loader="CLIPLoader, type qwen_image",
            tokenizer="QwenImageTokenizer",
            headless=True,
        ),
    ),
    cfg=lambda net: True,
)
