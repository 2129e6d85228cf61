"""Short trainings of the small model that are stopped and resumed."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Generator, Tensor

from erase_engine.config import EraseConfig, LossWeights
from erase_engine.training.checkpoint import Checkpoint
from erase_engine.training.encoded_prompts import EncodedPrompts
from erase_engine.training.loop import Erasure, StepReport, train_erasure

CONFIG = EraseConfig(
    weights=LossWeights(esd=1.0, attention=0.1, keep=1.0, rsc=0.01),
    steps=9,
    batch=4,
    learning_rate=0.02,
    cooldown=0.5,
    budget_every=2,
    trajectories=4,
    trajectory_steps=4,
    width=32,
    height=32,
)
# The paper's way, in small.
PAPER: dict[str, Any] = {
    "sampling": "fresh",
    "weights": LossWeights(esd=1.0, attention=0.1, keep=0.0, rsc=0.1, reconstruction=1.0),
}


def train(
    backend: Any, encoded: EncodedPrompts, checkpoint: Checkpoint | None = None, **changes: Any
) -> Erasure:
    on_step = changes.pop("on_step", lambda report: None)
    config = replace(CONFIG, **changes)
    generator = torch.Generator().manual_seed(config.seed)
    return train_erasure(
        backend, encoded, config, generator=generator, on_step=on_step, checkpoint=checkpoint
    )


def stop_at(step: int) -> Any:
    def on_step(report: StepReport) -> None:
        if report.step == step:
            raise KeyboardInterrupt

    return on_step


def stopped(backend: Any, encoded: EncodedPrompts, folder: Path, step: int, **changes: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(backend, encoded, Checkpoint(folder), on_step=stop_at(step), **changes)


def poison(small_flow: Any, step: int, times: int) -> Any:
    """The model gives NaN for the next passes after a step, as an overflow would."""
    healthy, left = small_flow.velocity, [0]

    def velocity(*args: Any, **kwargs: Any) -> Tensor:
        v = healthy(*args, **kwargs)
        if left[0] and v.requires_grad:
            left[0] -= 1
            return v * float("nan")
        return v

    def on_step(report: StepReport) -> None:
        if report.step == step:
            left[0] = times

    small_flow.velocity = velocity
    return on_step


def some_pictures(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, 4, 4, 4, generator=Generator().manual_seed(seed))


def folder_in(root: Path) -> Path:
    """The only training's."""
    (folder,) = root.iterdir()
    return folder


def no_space(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def equal(one: Erasure, other: Erasure) -> bool:
    same = all(torch.equal(one.state[key], other.state[key]) for key in one.state)
    return same and one.history == other.history and one.forwards == other.forwards
