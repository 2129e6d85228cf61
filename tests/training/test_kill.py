"""A process killed at any moment leaves nothing half-written, and what it can go on from."""

from __future__ import annotations

import os
import random
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from erase_engine.config import EraseConfig, LossWeights
from erase_engine.lora.file import save_lora
from erase_engine.training.checkpoint import STATE, TRAJECTORIES, Checkpoint
from erase_engine.training.encoded_prompts import EncodedPrompts
from erase_engine.training.loop import train_erasure

CONFIG = EraseConfig(
    weights=LossWeights(esd=1.0, attention=0.1, keep=1.0),
    steps=30,
    batch=4,
    trajectories=8,
    trajectory_steps=4,
    width=64,
    height=64,
)
KILLS = 20


def run(backend: object, encoded: EncodedPrompts, folder: Path) -> None:
    """What every caller does: train, save the LoRA, clear the checkpoint."""
    checkpoint = Checkpoint(folder / "unfinished", every=3)
    generator = torch.Generator().manual_seed(0)
    erasure = train_erasure(backend, encoded, CONFIG, generator=generator, checkpoint=checkpoint)  # type: ignore[arg-type]
    save_lora(folder / "star.safetensors", erasure.state, {}, overwrite=True)
    checkpoint.clear()


def killed_after(seconds: float, work: Callable[[], None]) -> None:
    """Does the work in a process of its own, which is killed without warning."""
    child = os.fork()
    if not child:
        try:
            work()
        finally:
            os._exit(0)
    time.sleep(seconds)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def test_every_killed_training_ends_in_the_same_file(small_flow, encoded, tmp_path) -> None:
    run(small_flow, encoded, tmp_path / "first")  # everything's first time takes longest
    begun = time.perf_counter()
    run(small_flow, encoded, tmp_path / "whole")
    seconds = time.perf_counter() - begun
    whole = (tmp_path / "whole" / "star.safetensors").read_bytes()
    rng = random.Random(0)
    gone_on = 0
    for number in range(KILLS):
        folder = tmp_path / str(number)
        killed_after(rng.uniform(0, seconds), partial(run, small_flow, encoded, folder))
        left = {path.name for path in folder.rglob("*") if not hidden(path.relative_to(folder))}
        left -= {path.name for path in (folder / "unfinished").glob("*")}  # the training's own
        assert left <= {"unfinished", TRAJECTORIES, STATE, "star.safetensors"}
        gone_on += STATE in left
        run(small_flow, encoded, folder)
        assert (folder / "star.safetensors").read_bytes() == whole
        assert [path.name for path in folder.iterdir()] == ["star.safetensors"]
    assert gone_on >= 3  # some were killed in the middle
