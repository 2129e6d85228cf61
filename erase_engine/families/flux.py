"""FLUX.1: joint (double) blocks in which text and image have a stream each, then single ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor

from . import joint
from .family import (
    BlockList,
    ComfyText,
    DiffusersCalls,
    DiffusersFiles,
    DiffusersSide,
    Family,
    NetLayout,
    Pass,
)

PATCH = 2
BLOCKS = (
    BlockList("double_blocks", ("img", "txt"), (0, 1), joint=True, kind="double"),
    BlockList("single_blocks", ("x",), (0,), kind="single"),
)


def _refused_by_comfy(net: Any) -> str:
    plain = net.params.in_channels == net.params.out_channels and net.vector_in is not None
    if plain and not net.params.global_modulation:
        return ""
    return f"a Flux variant ({type(net).__name__}, {net.params.in_channels} channels in)"


def _refused_by_diffusers(net: Any) -> str:
    channels = net.config.in_channels, net.out_channels
    fused = any(block.attn.fused_projections for block in net.transformer_blocks)
    if channels[0] == channels[1] and not fused:
        return ""
    kind = "fused" if fused else "separate"
    return f"a Flux with {channels[0]} channels in, {channels[1]} out and {kind} projections"


def _inputs(given: Pass) -> dict[str, Any]:
    """Latents in patches of 2 x 2, and where each of them stands: 0, row, column."""
    height, width = (side // PATCH for side in given.x_t.shape[-2:])
    axes = (torch.zeros(1, dtype=torch.long), torch.arange(height), torch.arange(width))
    packed = rearrange(given.x_t, "b c (h p) (w q) -> b (h w) (c p q)", p=PATCH, q=PATCH)
    return {
        "hidden_states": packed,  # (B, L, 4 C)
        "timestep": given.t,
        "guidance": given.guidance,
        "encoder_hidden_states": given.text,
        "pooled_projections": given.pooled,
        "img_ids": torch.cartesian_prod(*axes).float().to(given.t.device),
        "txt_ids": torch.zeros(given.text.shape[1], 3, device=given.t.device),
    }


def _velocity(out: Tensor, given: Pass) -> Tensor:
    height = given.x_t.shape[-2] // PATCH
    return rearrange(out, "b (h w) (c p q) -> b c (h p) (w q)", h=height, p=PATCH, q=PATCH)


def _config(weights: Mapping[str, Any]) -> dict[str, Any]:
    """FLUX.1's, with as many blocks as there are."""

    def count(kind: str) -> int:
        return len({key.split(".")[1] for key in weights if key.startswith(f"{kind}.")})

    return {
        "num_layers": count("transformer_blocks"),
        "num_single_layers": count("single_transformer_blocks"),
        "guidance_embeds": any(".guidance_embedder." in key for key in weights),
    }


FLUX = Family(
    name="Flux",
    models="FLUX.1 [dev] or [schnell]",
    comfy=NetLayout(
        classes=frozenset({"Flux"}),
        blocks=BLOCKS,
        size=lambda net: (net.params.hidden_size, net.params.num_heads),
        refusal=_refused_by_comfy,
    ),
    diffusers=DiffusersSide(
        layout=NetLayout(
            classes=frozenset({"FluxTransformer2DModel"}),
            blocks=(
                joint.BLOCKS,
                BlockList(
                    "single_transformer_blocks", ("hidden_states", "encoder_hidden_states"), (0, 1)
                ),
            ),
            size=lambda net: (net.inner_dim, net.config.num_attention_heads),
            refusal=_refused_by_diffusers,
        ),
        calls=DiffusersCalls(
            inputs=_inputs,
            velocity=_velocity,
            latent_channels=lambda net: net.config.in_channels // PATCH**2,
            guided=lambda net: bool(net.config.guidance_embeds),
        ),
        files=DiffusersFiles(
            text=(
                ("tokenizer", "CLIPTokenizer"),
                ("text_encoder", "CLIPTextModel"),
                ("tokenizer_2", "T5TokenizerFast"),
                ("text_encoder_2", "T5EncoderModel"),
            ),
            words=((1,),),
            pooled=(0,),
            shortest=256,
            marker="double_blocks.0.img_attn.qkv.weight",
            own="x_embedder.weight",
            converter="convert_flux_transformer_checkpoint_to_diffusers",
            config=_config,
            scheduler=lambda net: {"use_dynamic_shifting": bool(net.config.guidance_embeds)},
        ),
    ),
    targets=joint.TARGETS,
    entrances=joint.ENTRANCES,
    texts=(
        ComfyText(
            words=((("t5xxl", "t5xxl"),),),
            pooled=(("l", "clip_l"),),
            loader="DualCLIPLoader, type flux",
        ),
    ),
)
