"""Chroma: FLUX.1's blocks without a pooled text vector, guided by samplers."""

from __future__ import annotations

from . import joint
from .family import (
    BlockList,
    ComfyText,
    DiffusersCalls,
    DiffusersFiles,
    DiffusersSide,
    Family,
    NetLayout,
)
from .flux import BLOCKS, inputs, refused_by_diffusers
from .patches import PATCH, unpacked

CHROMA = Family(
    name="Chroma",
    models="Chroma",
    architecture="chroma",
    version="chroma",
    comfy=NetLayout(
        classes=frozenset({"Chroma"}),
        blocks=BLOCKS,
        size=lambda net: (net.hidden_size, net.num_heads),
        refusal=lambda net: "",
        cfg=lambda net: True,
    ),
    diffusers=DiffusersSide(
        layout=NetLayout(
            classes=frozenset({"ChromaTransformer2DModel"}),
            blocks=(
                joint.BLOCKS,
                BlockList("single_transformer_blocks", ("hidden_states",), (0,)),
            ),
            size=lambda net: (net.inner_dim, net.config.num_attention_heads),
            refusal=refused_by_diffusers,
            cfg=lambda net: True,
        ),
        calls=DiffusersCalls(
            inputs=inputs,
            velocity=unpacked,
            latent_channels=lambda net: net.config.in_channels // PATCH**2,
        ),
        files=DiffusersFiles(
            text=(("tokenizer", "T5TokenizerFast"), ("text_encoder", "T5EncoderModel")),
        ),
    ),
    targets=joint.TARGETS,
    entrances=joint.ENTRANCES,
    texts=(
        ComfyText(
            words=((("t5xxl", "t5xxl"),),),
            loader="CLIPLoader, type chroma",
            tokenizer="PixArtTokenizer",
        ),
    ),
)
