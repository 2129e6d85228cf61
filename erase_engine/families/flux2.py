"""FLUX.2 [dev] and [klein]: FLUX.1's blocks, a language model's text, latents of 16 x 16 pixels."""

from __future__ import annotations

from typing import Any

from .family import ComfyText, Family, NetLayout
from .flux import BLOCKS
from .joint import ENTRANCES, TARGETS


def _refused(net: Any) -> str:
    channels = net.params.in_channels, net.params.out_channels
    return "" if channels[0] == channels[1] else f"a FLUX.2 with {channels} channels in and out"


def _language_model(name: str, tokenizer: str = "") -> ComfyText:
    return ComfyText(words=(((name, name),),), loader="CLIPLoader, type flux2", tokenizer=tokenizer)


FLUX2 = Family(
    name="FLUX.2",
    models="FLUX.2 [dev] or [klein]",
    comfy=NetLayout(
        classes=frozenset({"Flux2"}),
        blocks=BLOCKS,
        size=lambda net: (net.params.hidden_size, net.params.num_heads),
        refusal=_refused,
    ),
    diffusers=None,
    targets=TARGETS,
    entrances=ENTRANCES,
    texts=(
        _language_model("mistral3_24b"),
        _language_model("qwen3_4b", "KleinTokenizer"),
        _language_model("qwen3_8b", "KleinTokenizer8B"),
    ),
    pixels_per_latent=16,
    left_padded=True,
    cfg=lambda net: not net.params.guidance_embed,
)
