"""Z-Image and Lumina 2: one stream of text and image, into which a few layers lead text alone.

All layers of the stream move the image's tokens as well: none of them is adapted.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from . import chats
from .family import (
    BlockList,
    Chat,
    ComfyText,
    DiffusersCalls,
    DiffusersFiles,
    DiffusersSide,
    Family,
    NetLayout,
    Pass,
    TargetSet,
)

TEXT_IN = "cap_embedder.1"
REFINERS = 2
BLOCKS = (BlockList("layers", ("x",), (0,), joint=True, kind="double"),)
NORMS = {TEXT_IN: "cap_embedder.0"}
MULTIPLE = 32  # tokens, in diffusers


def _refined(*layers: str) -> tuple[str, ...]:
    """Layers of the refiners' attention, in which there is text only."""
    return tuple(
        f"context_refiner.{number}.attention.{layer}"
        for number in range(REFINERS)
        for layer in layers
    )


def _variant(net: Any) -> str:
    others = ("clip_text_pooled_proj", "siglip_embedder")
    found = next((name for name in others if getattr(net, name, None) is not None), None)
    return f"a variant of Z-Image or Lumina 2 with {found}" if found else ""


def _not_z_image(net: Any) -> str:
    return _variant(net) or ("" if net.pad_tokens_multiple else "a Lumina 2")


def _not_lumina(net: Any) -> str:
    return _variant(net) or ("a Z-Image" if net.pad_tokens_multiple else "")


def _inputs(given: Pass) -> dict[str, Any]:
    """A picture each, with a frame; its time runs from 0 (noise) to 1."""
    return {
        "x": [each[:, None] for each in given.x_t],
        "t": 1 - given.t,
        "cap_feats": list(given.text),
    }


_ALL = _refined("to_q", "to_k", "to_v", "to_out.0")
Z_IMAGE = Family(
    name="Z-Image",
    models="Z-Image",
    architecture="z-image",
    version="zimage",
    comfy=NetLayout(
        classes=frozenset({"Lumina2"}),
        blocks=BLOCKS,
        size=lambda net: (net.dim, net.n_heads),
        refusal=_not_z_image,
        norms=NORMS,
        multiple=lambda net: net.pad_tokens_multiple or 1,
        cfg=lambda net: True,
    ),
    diffusers=DiffusersSide(
        layout=NetLayout(
            classes=frozenset({"ZImageTransformer2DModel"}),
            blocks=BLOCKS,
            size=lambda net: (net.dim, net.n_heads),
            refusal=_variant,
            text_first=False,
            norms=NORMS,
            multiple=lambda net: MULTIPLE,
            cfg=lambda net: True,
        ),
        calls=DiffusersCalls(
            inputs=_inputs,
            velocity=lambda out, given: -torch.stack([each[:, 0] for each in out]),
            latent_channels=lambda net: net.in_channels,
        ),
        files=DiffusersFiles(text=chats.FILES, chats=(Chat("qwen3", chats.USER, layers=(-2,)),)),
    ),
    targets={
        "text_in": TargetSet((), (TEXT_IN,)),
        "text_in_pooled": TargetSet((), (TEXT_IN, *_ALL)),
        "text_qk": TargetSet((), _refined("to_q", "to_k")),
        "text_all": TargetSet((), _ALL),
    },
    entrances={TEXT_IN: "text"},
    texts=(
        ComfyText(
            words=((("qwen3_4b", "qwen3_4b"),),),
            loader="CLIPLoader, type lumina2",
            tokenizer="ZImageTokenizer",
        ),
    ),
    prefix="diffusion_model.",
    experimental="Only the layers through which text alone enters are trained; nobody has seen "
    "yet how well that erases in trained models of this family.",
)
_GEMMA = ("gemma2_2b", "gemma2_2b")
LUMINA_2 = replace(
    Z_IMAGE,
    name="Lumina 2",
    models="Lumina 2",
    architecture="lumina-2",
    version="lumina2",
    comfy=replace(Z_IMAGE.comfy, refusal=_not_lumina),
    diffusers=None,
    # Its keys and values are narrower, and the host's names for their rows are those of others.
    targets={name: TargetSet((), (TEXT_IN,)) for name in ("text_in", "text_in_pooled")},
    texts=(
        ComfyText(
            words=((_GEMMA,),), loader="CLIPLoader, type lumina2", tokenizer="LuminaTokenizer"
        ),
    ),
)
