"""Trains the tiny Flux: `python scripts/make_weights.py flux`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..models import TEXT_TOKENS, build_clip, flux_of, load_weights
from .data import tokenize
from .flow import ATTENTION, Net, train
from .worlds import World


def initialise(flux: nn.Module) -> None:
    """Xavier matrices, zero biases; modulations and the last layer start at zero."""
    for name, parameter in flux.named_parameters():
        if name.endswith(".scale"):
            nn.init.ones_(parameter)
        elif (
            parameter.ndim < 2
            or "mod.lin" in name
            or "modulation" in name
            or name.startswith("final_layer")
        ):
            nn.init.zeros_(parameter)
        else:
            nn.init.xavier_uniform_(parameter)


def compile_blocks(flux: Any) -> None:
    """Compiles every block as a pure function, on copies of its streams.

    The compiler drops the copies that turn out not to matter.
    """
    for block in flux.double_blocks:
        block.forward = torch.compile(_pure_double(block.forward))
    for block in flux.single_blocks:
        block.forward = torch.compile(_pure_single(block.forward))


def _pure_double(forward: Any) -> Any:
    def run(*, img: Tensor, txt: Tensor, vec: Tensor, pe: Tensor, **_: Any) -> Any:
        return forward(img.clone(), txt.clone(), vec, pe, transformer_options=ATTENTION)

    return run


def _pure_single(forward: Any) -> Any:
    def run(x: Tensor, *, vec: Tensor, pe: Tensor, **_: Any) -> Any:
        return forward(x.clone(), vec, pe, transformer_options=ATTENTION)

    return run


@torch.no_grad()
def encode_captions(world: World, texts: list[str]) -> tuple[Tensor, Tensor]:
    """T5 features (N, T, D) and CLIP vectors (N, 32), float16, by the frozen encoders."""
    clip = build_clip(load_weights("text", world.folder))
    model = clip.cond_stage_model
    t5_ids, clip_ids = tokenize(texts, TEXT_TOKENS)
    text, pooled = [], []
    for start in range(0, len(texts), 1000):
        rows = slice(start, start + 1000)
        text.append(model.t5xxl.transformer(t5_ids[rows], None)[0].half())
        pooled.append(model.clip_l.transformer(clip_ids[rows])[3].half())
    return torch.cat(text), torch.cat(pooled)


def velocity(flux: nn.Module, x_t: Tensor, t: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
    guidance = 1 + 4 * torch.rand(len(x_t))  # an input that this model learns to ignore
    return flux(x_t, t, text, pooled, guidance, transformer_options=dict(ATTENTION))


FLUX = Net(
    name="flux",
    build=lambda world: flux_of(world.flux),
    initialise=initialise,
    compile=compile_blocks,
    hidden=("double_blocks", "single_blocks"),
    modulation="mod",
    encode=encode_captions,
    velocity=velocity,
)


def main(arguments: Sequence[str]) -> None:
    train(FLUX, __doc__, arguments)
