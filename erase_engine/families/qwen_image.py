"""Qwen-Image: joint blocks alone, text of a language model, latents with a frame, guided."""

from __future__ import annotations

from typing import Any

from . import chats
from .family import (
    Chat,
    ComfyText,
    DiffusersCalls,
    DiffusersFiles,
    DiffusersSide,
    Family,
    NetLayout,
    Pass,
)
from .joint import BLOCKS, entrances, targets
from .patches import PATCH, grid, packed, unpacked

TEXT_IN = "txt_in"
SYSTEM = (
    "<|im_start|>system\nDescribe the image by detailing the color, shape, size, texture, "
    "quantity, text, spatial relationships of the objects and background:<|im_end|>\n"
)


def _refused_by_comfy(net: Any) -> str:
    layered = getattr(net.time_text_embed, "use_additional_t_cond", False)
    if layered or getattr(net, "default_ref_method", "index") != "index":
        return "a Qwen-Image that edits pictures or draws layers"
    return ""


def _refused_by_diffusers(net: Any) -> str:
    options = ("zero_cond_t", "use_additional_t_cond", "use_layer3d_rope")
    edits = any(net.config.get(option) for option in options)
    return "a Qwen-Image that edits pictures or draws layers" if edits else ""


def _inputs(given: Pass) -> dict[str, Any]:
    return {
        "hidden_states": packed(given.x_t),
        "timestep": given.t,
        "encoder_hidden_states": given.text,
        "img_shapes": [[(1, *grid(given.x_t))]] * len(given.x_t),
    }


QWEN_IMAGE = Family(
    name="Qwen-Image",
    models="Qwen-Image",
    architecture="qwen-image",
    version="qwen_image",
    comfy=NetLayout(
        classes=frozenset({"QwenImage"}),
        blocks=(BLOCKS,),
        size=lambda net: (net.inner_dim, net.transformer_blocks[0].num_attention_heads),
        refusal=_refused_by_comfy,
        norms={TEXT_IN: "txt_norm"},
        cfg=lambda net: True,
    ),
    diffusers=DiffusersSide(
        layout=NetLayout(
            classes=frozenset({"QwenImageTransformer2DModel"}),
            blocks=(BLOCKS,),
            size=lambda net: (net.inner_dim, net.config.num_attention_heads),
            refusal=_refused_by_diffusers,
            norms={TEXT_IN: "txt_norm"},
            cfg=lambda net: True,
        ),
        calls=DiffusersCalls(
            inputs=_inputs,
            velocity=unpacked,
            latent_channels=lambda net: net.config.in_channels // PATCH**2,
        ),
        files=DiffusersFiles(
            text=chats.FILES,
            chats=(Chat("qwen2_5_vl", SYSTEM + chats.USER, layers=(-1,), headless=True),),
            pictures=False,
        ),
    ),
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
)
