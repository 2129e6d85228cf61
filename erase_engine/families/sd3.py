"""Stable Diffusion 3 and 3.5: joint blocks alone, three text encoders, guided by samplers."""

from __future__ import annotations

from collections.abc import Mapping
from math import isqrt
from typing import Any

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
from .joint import BLOCKS, ENTRANCES, TARGETS

STEPS = 1000  # of its times
HEAD = 64  # numbers
_CLIP, _T5 = (("l", "clip_l"), ("g", "clip_g")), (("t5xxl", "t5xxl"),)


def _refused_by_comfy(net: Any) -> str:
    if net.in_channels != net.out_channels:
        return f"an SD3 with {net.in_channels} channels in and {net.out_channels} out"
    if net.context_processor is not None or net.register_length or net.y_embedder is None:
        return "an SD3 variant whose text enters another way"
    return ""


def _refused_by_diffusers(net: Any) -> str:
    channels = net.config.in_channels, net.out_channels
    if channels[0] == channels[1]:
        return ""
    return f"an SD3 with {channels[0]} channels in and {channels[1]} out"


def _inputs(given: Pass) -> dict[str, Any]:
    return {
        "hidden_states": given.x_t,
        "timestep": STEPS * given.t,
        "encoder_hidden_states": given.text,
        "pooled_projections": given.pooled,
    }


def _config(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The sizes of a net with these weights, by diffusers' names."""
    blocks = {key.split(".")[1] for key in weights if key.startswith("transformer_blocks.")}
    second = {key.split(".")[1] for key in weights if ".attn2." in key}
    width, text = weights["context_embedder.weight"].shape
    return {
        "num_layers": len(blocks),
        "num_attention_heads": width // HEAD,
        "attention_head_dim": HEAD,
        "caption_projection_dim": width,
        "joint_attention_dim": text,
        "pooled_projection_dim": weights["time_text_embed.text_embedder.linear_1.weight"].shape[1],
        "pos_embed_max_size": isqrt(weights["pos_embed.pos_embed"].shape[1]),
        "dual_attention_layers": tuple(sorted(map(int, second))),
        "qk_norm": "rms_norm" if any(".norm_q." in key for key in weights) else None,
    }


SD3 = Family(
    name="SD3",
    models="Stable Diffusion 3 or 3.5 (medium or large)",
    architecture="stable-diffusion-3",
    version="sd3",
    comfy=NetLayout(
        classes=frozenset({"SD3"}),
        blocks=(BlockList("joint_blocks", ("context", "x"), (0, 1), joint=True, kind="double"),),
        size=lambda net: (net.hidden_size, net.num_heads),
        refusal=_refused_by_comfy,
        cfg=lambda net: True,
    ),
    diffusers=DiffusersSide(
        layout=NetLayout(
            classes=frozenset({"SD3Transformer2DModel"}),
            blocks=(BLOCKS,),
            size=lambda net: (net.inner_dim, net.config.num_attention_heads),
            refusal=_refused_by_diffusers,
            text_first=False,
            cfg=lambda net: True,
        ),
        calls=DiffusersCalls(
            inputs=_inputs,
            velocity=lambda out, given: out,
            latent_channels=lambda net: net.config.in_channels,
        ),
        files=DiffusersFiles(
            text=(
                ("tokenizer", "CLIPTokenizer"),
                ("text_encoder", "CLIPTextModelWithProjection"),
                ("tokenizer_2", "CLIPTokenizer"),
                ("text_encoder_2", "CLIPTextModelWithProjection"),
                ("tokenizer_3", "T5TokenizerFast"),
                ("text_encoder_3", "T5EncoderModel"),
            ),
            words=((0, 1), (2,)),
            pooled=(0, 1),
            shortest=77,
            published=PublishedFile(
                marker="joint_blocks.0.x_block.attn.qkv.weight",
                own="pos_embed.proj.weight",
                converter="convert_sd3_transformer_checkpoint_to_diffusers",
                config=_config,
                scheduler=lambda net: {"shift": 3.0},
            ),
        ),
    ),
    targets=TARGETS,
    entrances=ENTRANCES,
    texts=(
        ComfyText(
            words=(_CLIP, _T5),
            pooled=_CLIP,
            loader="TripleCLIPLoader, or DualCLIPLoader of type sd3",
        ),
    ),
)
