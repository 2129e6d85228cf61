"""FLUX.1: joint (double) blocks in which text and image have a stream each, then single ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

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
    PublishedFile,
)
from .patches import PATCH, grid, packed, places, unpacked

BLOCKS = (
    BlockList("double_blocks", ("img", "txt"), (0, 1), joint=True, kind="double"),
    BlockList("single_blocks", ("x",), (0,), kind="single"),
)
DIFFUSERS_BLOCKS = (
    joint.BLOCKS,
    BlockList("single_transformer_blocks", ("hidden_states", "encoder_hidden_states"), (0, 1)),
)


def _refused_by_comfy(net: Any) -> str:
    plain = net.params.in_channels == net.params.out_channels and net.vector_in is not None
    if plain and not net.params.global_modulation:
        return ""
    return f"a Flux variant ({type(net).__name__}, {net.params.in_channels} channels in)"


def refused_by_diffusers(net: Any) -> str:
    """What makes a net unfit that takes more than latents; "" where nothing does."""
    given, made = net.config.in_channels, net.out_channels
    return "" if given == made else f"a variant with {given} channels in and {made} out"


def inputs(given: Pass) -> dict[str, Any]:
    """Latents in patches, and where each of them stands: 0, row, column."""
    return {
        "hidden_states": packed(given.x_t),
        "timestep": given.t,
        "encoder_hidden_states": given.text,
        "img_ids": places((1, *grid(given.x_t)), given.t.device),
        "txt_ids": torch.zeros(given.text.shape[1], 3, device=given.t.device),
    }


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
    architecture="flux-1-dev",
    version="flux1",
    comfy=NetLayout(
        classes=frozenset({"Flux"}),
        blocks=BLOCKS,
        size=lambda net: (net.params.hidden_size, net.params.num_heads),
        refusal=_refused_by_comfy,
    ),
    diffusers=DiffusersSide(
        layout=NetLayout(
            classes=frozenset({"FluxTransformer2DModel"}),
            blocks=DIFFUSERS_BLOCKS,
            size=lambda net: (net.inner_dim, net.config.num_attention_heads),
            refusal=refused_by_diffusers,
        ),
        calls=DiffusersCalls(
            inputs=lambda given: {
                **inputs(given),
                "guidance": given.guidance,
                "pooled_projections": given.pooled,
            },
            velocity=unpacked,
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
            published=PublishedFile(
                marker="double_blocks.0.img_attn.qkv.weight",
                own="x_embedder.weight",
                converter="convert_flux_transformer_checkpoint_to_diffusers",
                config=_config,
                scheduler=lambda net: {"use_dynamic_shifting": bool(net.config.guidance_embeds)},
            ),
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
