"""Trains the tiny SD3.5: `python scripts/make_weights.py sd35`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..models import load_weights
from ..sd35 import build_clip, build_sd35, joined, places
from .flow import ATTENTION, Net, train
from .worlds import World

TIMES = 1000  # the net's own time is 1000 t
AT_ONCE = 500  # captions


def initialise(net: Any) -> None:
    """Xavier matrices, zero biases; modulations and the last layer start at zero."""
    for name, parameter in net.named_parameters():
        if ".ln_" in name:
            nn.init.ones_(parameter)
        elif parameter.ndim < 2 or "adaLN" in name or name.startswith("final_layer"):
            nn.init.zeros_(parameter)
        else:
            nn.init.xavier_uniform_(parameter.flatten(1))
    net.pos_embed.copy_(places(net.hidden_size))


def compile_blocks(net: Any) -> None:
    """Compiles every block as a pure function, on copies of its streams."""
    for block in net.joint_blocks:
        block.forward = torch.compile(_pure(block.forward))


def _pure(forward: Any) -> Any:
    def run(context: Tensor, x: Tensor, *, c: Tensor, **_: Any) -> Any:
        return forward(
            context.clone(), x.clone(), c=c, use_checkpoint=False, transformer_options=ATTENTION
        )

    return run


@torch.no_grad()
def encode_captions(world: World, texts: list[str]) -> tuple[Tensor, Tensor]:
    """Features of all three encoders (N, T, 64) and pooled vectors (N, 64), float16."""
    clip = build_clip(load_weights("text", world.folder))
    model, text, pooled = clip.cond_stage_model, [], []
    for start in range(0, len(texts), AT_ONCE):
        tokens = [clip.tokenize(each) for each in texts[start : start + AT_ONCE]]
        ids = {key: [[id for id, _ in each[key][0]] for each in tokens] for key in tokens[0]}
        encoders = ((model.clip_l, "l"), (model.clip_g, "g"), (model.t5xxl, "t5xxl"))
        some = joined(*(encoder(ids[key])[:2] for encoder, key in encoders))
        text.append(some[0].half())
        pooled.append(some[1].half())
    return torch.cat(text), torch.cat(pooled)


def velocity(net: nn.Module, x_t: Tensor, t: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
    return net(x_t, TIMES * t, text, pooled, transformer_options=dict(ATTENTION))


SD35 = Net(
    name="sd35",
    build=lambda _: build_sd35(),
    initialise=initialise,
    compile=compile_blocks,
    hidden=("joint_blocks",),
    modulation="adaLN",
    encode=encode_captions,
    velocity=velocity,
    unconditional=0.1,
)


def main(arguments: Sequence[str]) -> None:
    train(SD35, __doc__, arguments)
