"""One step of a training on a model, told pass by pass and timed."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from eraseanything_pack.erase_engine.training.encoded_prompts import EncodedPrompts
from eraseanything_pack.erase_engine.training.loop import Training
from eraseanything_pack.erase_engine.training.objective import Objective
from eraseanything_pack.erase_engine.training.states.cached import CachedStates
from eraseanything_pack.erase_engine.training.teacher import CountedModel, ForwardCount
from eraseanything_pack.nodes.host.session import training_session

from .full_width import random_trajectories

BACKWARD = 1.0  # of a forward pass: weights get no gradient; 0.6 to 1.2, growing with the tokens


class Clock:
    """Seconds since the step began, by the clock and of the processor, and of its forward passes.

    Args:
        peak_mb: the process's highest megabytes so far.
    """

    def __init__(self, peak_mb: Callable[[], float]) -> None:
        self.peak_mb = peak_mb
        self.forwards: list[float] = []
        self.start()

    def start(self) -> None:
        self.started = now()

    def elapsed(self) -> tuple[float, float]:
        return since(self.started)

    def forward(self) -> float:
        """Processor seconds of a pass: their mean."""
        return sum(self.forwards) / len(self.forwards)

    def tell(self, what: str) -> None:
        text = f"{what} after {self.elapsed()[0]:.1f} s, peak {self.peak_mb():.0f} MB"
        print(text, file=sys.stderr, flush=True)


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def since(before: tuple[float, float]) -> tuple[float, float]:
    wall, processor = now()
    return wall - before[0], processor - before[1]


@dataclass(frozen=True)
class TimedModel(CountedModel):
    """Every forward pass is timed."""

    clock: Clock

    def velocity(self, *args: Any) -> Any:
        self.clock.tell("forward begins")
        began = now()
        out = super().velocity(*args)
        self.clock.forwards.append(since(began)[1])
        self.clock.tell("forward ends")
        return out


def full_step(
    model: Any,
    config: EraseConfig,
    encoded: EncodedPrompts,
    *,
    checkpointing: bool,
    clock: Clock,
    memory_required: int = 0,
) -> LoraSet:
    """The LoRA after one erase and one preserve step; `clock` runs from after the set-up."""
    generator = torch.Generator().manual_seed(0)
    session: dict[str, Any] = {"checkpointing": checkpointing, "memory_required": memory_required}
    with training_session(model, guidance=config.guidance, **session) as backend:
        slices = backend.linear_slices(backend.target_names(config.lora.targets))
        lora = backend.adapters(slices, rank=config.lora.rank, generator=generator)
        prompted = TimedModel(backend, encoded, config, ForwardCount(0), clock)
        cached = random_trajectories(config, backend.latents, encoded.tokens.all.shape[1])
        states = CachedStates(prompted, lora, cached, lambda: None)
        training = Training(Objective(prompted, lora, states, generator), {})
        with lora.attach(slices):
            clock.start()
            training.step(1)
            clock.tell("step ends")
    return lora


def predicted_seconds(forward_s: float, *, trained: int, checkpointing: bool) -> float:
    """forward_s trained (1 + [checkpointing] + BACKWARD).

    Args:
        forward_s: measured seconds of a forward pass.
        trained: passes with a gradient.
        checkpointing: each block runs once more in backward.
    """
    return forward_s * trained * (1 + checkpointing + BACKWARD)
