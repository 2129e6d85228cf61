"""FLUX.2 [dev] and [klein]: FLUX.1's blocks, a language model's text, latents of 16 x 16 pixels."""

from __future__ import annotations

from typing import Any

from einops import rearrange
from torch.nn.functional import pad

from . import chats, joint
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
from .flux import BLOCKS, DIFFUSERS_BLOCKS, refused_by_diffusers
from .patches import places

TEXT = 512  # tokens that text is filled up to
KLEIN_CHAT = Chat("qwen3", chats.USER + "<think>\n\n</think>\n\n", layers=(9, 18, 27), length=TEXT)
# Not filled up here: zeros then stand before it, as in ComfyUI.
DEV_CHAT = Chat(
    "mistral3",
    "<s>[SYSTEM_PROMPT]You are an AI that reasons about image descriptions. You give structured "
    "responses focusing on object relationships, object\nattribution and actions without "
    "speculation.[/SYSTEM_PROMPT][INST]{}[/INST]",
    layers=(10, 20, 30),
)
SHIFT = 2.02  # of time, as ComfyUI has it: of a picture of 1024 x 1024 pixels in 50 steps


def _refused_by_comfy(net: Any) -> str:
    inside, out = net.params.in_channels, net.params.out_channels
    return "" if inside == out else f"a FLUX.2 with {inside} channels in and {out} out"


def _language_model(name: str, tokenizer: str = "") -> ComfyText:
    return ComfyText(words=(((name, name),),), loader="CLIPLoader, type flux2", tokenizer=tokenizer)


def _inputs(given: Pass) -> dict[str, Any]:
    """Text filled up with zeros in front; places are: picture, row, column, token."""
    missing = max(0, TEXT - given.text.shape[1])
    text, device = pad(given.text, (0, 0, missing, 0)), given.t.device
    return {
        "hidden_states": rearrange(given.x_t, "b c h w -> b (h w) c"),
        "timestep": given.t,
        "guidance": given.guidance,
        "encoder_hidden_states": text,
        "img_ids": places((1, *given.x_t.shape[-2:], 1), device),
        "txt_ids": places((1, 1, 1, text.shape[1]), device),
    }


FLUX2 = Family(
    name="FLUX.2",
    models="FLUX.2 [dev] or [klein]",
    architecture="flux-2",
    version="flux2",
    comfy=NetLayout(
        classes=frozenset({"Flux2"}),
        blocks=BLOCKS,
        size=lambda net: (net.params.hidden_size, net.params.num_heads),
        refusal=_refused_by_comfy,
        cfg=lambda net: not net.params.guidance_embed,
    ),
    diffusers=DiffusersSide(
        layout=NetLayout(
            classes=frozenset({"Flux2Transformer2DModel"}),
            blocks=DIFFUSERS_BLOCKS,
            size=lambda net: (net.inner_dim, net.config.num_attention_heads),
            refusal=refused_by_diffusers,
            cfg=lambda net: not net.config.guidance_embeds,
        ),
        calls=DiffusersCalls(
            inputs=_inputs,
            velocity=lambda out, given: rearrange(
                out, "b (h w) c -> b c h w", h=given.x_t.shape[-2]
            ),
            latent_channels=lambda net: net.config.in_channels,
            guided=lambda net: bool(net.config.guidance_embeds),
            shift=SHIFT,
        ),
        files=DiffusersFiles(
            text=chats.FILES,
            chats=(KLEIN_CHAT, DEV_CHAT),
            pictures=False,
        ),
    ),
    targets=joint.TARGETS,
    entrances=joint.ENTRANCES,
    texts=(
        _language_model("mistral3_24b"),
        _language_model("qwen3_4b", "KleinTokenizer"),
        _language_model("qwen3_8b", "KleinTokenizer8B"),
    ),
    pixels_per_latent=16,
    left_padded=TEXT,
)
