"""One step of a training on a model, told pass by pass and timed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from eraseanything_pack.erase_engine.lora import LoraSet, target_names
from eraseanything_pack.erase_engine.solvers import Run
from eraseanything_pack.erase_engine.teacher import Count, PromptedModel
from eraseanything_pack.erase_engine.train import Training
from eraseanything_pack.nodes.host import training_session

from .full_width import config_of, encoded_plan, random_banks


@dataclass
class Clock:
    """Seconds since the step began, and of each forward pass in it."""

    peak_mb: Callable[[], float]
    started: float = 0.0
    forwards: list[float] = field(default_factory=list)

    def elapsed(self) -> float:
        return time.perf_counter() - self.started

    def forward_s(self) -> float:
        """The mean of the passes."""
        return sum(self.forwards) / len(self.forwards)

    def tell(self, what: str) -> None:
        text = f"{what} after {self.elapsed():.1f} s, peak {self.peak_mb():.0f} MB"
        print(text, file=sys.stderr, flush=True)


@dataclass(frozen=True)
class TimedModel(PromptedModel):
    """Every forward pass is timed."""

    clock: Clock

    def velocity(self, *args: Any) -> Any:
        self.clock.tell("forward begins")
        began = time.perf_counter()
        out = super().velocity(*args)
        self.clock.forwards.append(time.perf_counter() - began)
        self.clock.tell("forward ends")
        return out


def full_step(
    model: Any, pixels: int, *, checkpointing: bool, clock: Clock, text_length: int = 256
) -> LoraSet:
    """The LoRA after one erase and one preserve step; `clock` runs from after the set-up."""
    config = config_of(pixels)
    generator = torch.Generator().manual_seed(0)
    with training_session(model, guidance=config.guidance, checkpointing=checkpointing) as backend:
        slices = backend.linear_slices(target_names(config.lora.targets, backend.double_blocks))
        lora = backend.adapters(slices, rank=config.lora.rank, generator=generator)
        prompted = TimedModel(backend, encoded_plan(text_length), config, Count(0), clock)
        training = Training(Run(prompted, lora, random_banks(config), generator), {})
        with lora.attach(slices):
            clock.started = time.perf_counter()
            training.step(1)
            clock.tell("step ends")
    return lora
