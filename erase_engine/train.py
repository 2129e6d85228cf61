"""The training loop: banks first, then steps of a solver, reported one by one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Generator, Tensor

from .backends.base import FlowBackend
from .config import EraseConfig
from .encoded import EncodedPlan
from .lora import target_names
from .solvers import SOLVERS, Run
from .teacher import FORWARD_AND_BACKWARD, Count, PromptedModel, build_banks, keeps


@dataclass(frozen=True)
class StepReport:
    """What one step did. `losses` holds those that were computed, unweighted.

    While the bank is sampled, reports come with step 0 and no losses.
    """

    step: int
    total: int
    losses: dict[str, float]
    gradient_norm: float  # before clipping
    forwards: int  # samples through the model so far; a backward counts as two
    total_forwards: int  # of the whole training


@dataclass(frozen=True)
class Erasure:
    """A finished training: the LoRA's state, each loss step by step, and what it cost."""

    state: dict[str, Tensor]
    history: dict[str, list[float]]
    forwards: int


OnStep = Callable[[StepReport], None]


def train_erasure(
    backend: FlowBackend,
    encoded: EncodedPlan,
    config: EraseConfig,
    *,
    generator: Generator,
    on_step: OnStep = lambda report: None,
) -> Erasure:
    """Trains a LoRA that erases the plan's concept from the backend's model.

        preserve (outer):  min  w_keep L_keep + w_rsc L_rsc
        subject to erase (inner):  LoRA in argmin  w_esd L_esd + w_attn L_attn

    Nobody differentiates through the inner problem: `alternate` takes one first-order step on
    each by turns, `budget` one step on the sum, the outer part weighted by a multiplier.
    Teacher and student are one model, with the LoRA off and on.

    Args:
        generator: CPU generator; the same one gives the same LoRA.
        on_step: called after each step, and after each pass that samples the bank; whatever it
            raises ends the training.

    Raises:
        FloatingPointError: a loss is not finite.
    """
    slices = backend.linear_slices(target_names(config.lora.targets, backend.double_blocks))
    lora = backend.adapters(
        slices,
        rank=config.lora.rank,
        alpha=config.lora.alpha,
        init=config.lora.init,
        generator=generator,
    )
    count = Count(expected_forwards(encoded, config))

    def report(step: int, losses: dict[str, float], norm: float) -> None:
        on_step(StepReport(step, config.steps, losses, norm, count.forwards, count.expected))

    model = PromptedModel(backend, encoded, config, count)
    banks = build_banks(model, generator=generator, on_pass=lambda: report(0, {}, 0.0))
    run = Run(model, lora, banks, generator)
    solver = SOLVERS[config.solver](run)
    history: dict[str, list[float]] = {}
    with lora.attach(slices):
        for step in range(1, config.steps + 1):
            losses, norm = solver.step(step)
            for name, value in losses.items():
                history.setdefault(name, []).append(value)
            report(step, losses, norm)
    return Erasure(lora.state_dict(), history, count.forwards)


def expected_forwards(encoded: EncodedPlan, config: EraseConfig) -> int:
    """How many samples a training sends through the model; a backward counts as two.

    Banks: `paths` x `trajectory_steps` x (2 for the concept's paths + 2 for the anchor's +
    1 for the keep prompts'). Each step: 3 x `batch` + 3 x `keep_per_step`, and for L_rsc
    `keep_per_step` x (3 + 1 + K) more.
    """
    weights, keep, trained = config.weights, config.keep_per_step, FORWARD_AND_BACKWARD
    step = config.batch * trained
    step += keep * trained if weights.keep > 0 else 0
    if weights.rsc > 0 and encoded.contrast is not None:
        step += keep * (trained + 1 + encoded.contrast.per_pair)
    probes = config.steps // config.budget_every if config.solver == "budget" else 0
    states = config.paths * config.trajectory_steps
    return states * (5 if keeps(config) else 4) + config.steps * step + probes * 2 * keep
