"""Qwen-Image: joint blocks alone, text of a language model, latents with a frame, guided."""

from __future__ import annotations

from .family import BlockList, ComfyText, Family, NetLayout
from .joint import entrances, targets

TEXT_IN = "txt_in"
_BLOCKS = BlockList(
    "transformer_blocks",
    ("hidden_states", "encoder_hidden_states"),
    (0, 1),
    joint=True,
    kind="double",
)

QWEN_IMAGE = Family(
    name="Qwen-Image",
    models="Qwen-Image",
    comfy=NetLayout(
        classes=frozenset({"QwenImage"}),
        blocks=(_BLOCKS,),
        size=lambda net: (net.inner_dim, net.transformer_blocks[0].num_attention_heads),
        refusal=lambda net: "",
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
