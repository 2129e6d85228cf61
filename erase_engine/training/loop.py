"""The training loop: trajectories first, then steps of a solver, each reported."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from torch import Generator, Tensor

from ..config import EraseConfig
from ..interfaces import FlowModel
from ..lora.adapters import adapted_layers
from .checkpoint import Checkpoint, SavedTrajectories
from .encoded_prompts import EncodedPrompts
from .last_state import LastState, Snapshot
from .objective import STATES, Objective
from .solvers.adversary import Adversary
from .solvers.table import SOLVERS
from .teacher import (
    FORWARD_AND_BACKWARD,
    CountedModel,
    ForwardCount,
    Trajectories,
    cache_all_trajectories,
    keeps,
    same_teacher,
)

Stage = Literal["sampling", "solving", "solved", "hardening", "training"]


@dataclass(frozen=True)
class StepReport:
    """What one step did. `losses` holds those that were computed, unweighted.

    What is no step is told of without losses, as a pass that samples, or a closed form that is
    about to be solved, or is in place; `step` is then the last one that is done.
    """

    step: int
    total: int
    losses: dict[str, float]
    gradient_norm: float  # before clipping
    forwards: int  # samples through the model so far; a backward counts as two
    total_forwards: int  # of the whole training
    history: Mapping[str, list[float]] = field(default_factory=dict)  # each loss up to this step
    stage: Stage = "training"
    ended: bool = False  # before the last step: there is nothing left to do

    @property
    def last(self) -> bool:
        """Whether no step comes after this one."""
        return self.ended or self.step == self.total

    @property
    def done_before(self) -> int:
        """Steps that were done before what is told of."""
        return self.step - bool(self.losses)


@dataclass(frozen=True)
class Erasure:
    """A training's outcome: the LoRA's state, each loss step by step, and what it cost."""

    state: dict[str, Tensor]
    history: dict[str, list[float]]
    forwards: int
    warnings: tuple[str, ...] = ()  # for people: what did not go as it should
    ended: str = ""  # why it ended before its last step
    solved: bool = False  # a closed form erases the concept
    unsolved: float = 1.0  # of the change that a closed form is to make, the share not made

    @property
    def figures(self) -> dict[str, Any]:
        """Steps (fewer than the config's where it was stopped), passes, each loss's last value."""
        last = {name: values[-1] for name, values in self.history.items()}
        steps = max(map(len, self.history.values()), default=0)
        return {"steps": steps, "forwards": self.forwards, "last_losses": last}


OnStep = Callable[[StepReport], None]


def train_erasure(
    backend: FlowModel,
    encoded: EncodedPrompts,
    config: EraseConfig,
    *,
    generator: Generator,
    on_step: OnStep = lambda report: None,
    checkpoint: Checkpoint | None = None,
) -> Erasure:
    """Trains a LoRA that erases the plan's concept from the backend's model.

        preserve (outer):  min  w_keep L_keep + w_rsc L_rsc
        subject to erase (inner):  LoRA in argmin  w_esd L_esd + w_attn L_attn

    Nobody differentiates through the inner problem: `alternate` takes one first-order step on
    each by turns, `budget` one step on the sum, the outer part weighted by a multiplier.
    Teacher and student are one model, with the LoRA off and on.

    Args:
        generator: CPU generator; the same one gives the same LoRA.
        on_step: called after each step, and after each pass that samples; whatever it raises ends
            the training.
        checkpoint: saved to every few steps and when the training is stopped; resumed where it
            holds this very training. The end is the same, byte for byte.

    Raises:
        FloatingPointError: a loss or a gradient is not finite, twice in a row.
    """
    checkpoint = checkpoint or Checkpoint(None)
    config = config.for_concepts(encoded.concepts)
    slices = backend.linear_slices(adapted_layers(backend, config))
    numbers = {"rank": config.lora.rank, "alpha": config.lora.alpha, "init": config.lora.init}
    lora = backend.adapters(slices, **numbers, generator=generator)
    count = ForwardCount(expected_forwards(encoded, config))
    history: dict[str, list[float]] = {}

    def report(step: int, losses: dict[str, float], norm: float, **told: Any) -> None:
        spent = count.forwards, max(count.expected, count.forwards)
        on_step(StepReport(step, config.steps, losses, norm, *spent, history, **told))

    def on_pass() -> None:
        step = max(map(len, history.values()), default=0)
        report(step, {}, 0.0, stage="training" if step else "sampling")

    model = CountedModel(backend, encoded, config, count)
    adversary = None
    if config.attack:
        radius, rate = config.attack, config.attack_rate
        adversary = Adversary(encoded, radius=radius, rate=rate, device=backend.device)
    with checkpoint.opened(encoded, config):
        trajectories = None
        if config.steps:
            trajectories = _trajectories(model, generator, checkpoint, on_pass=on_pass)
        states = STATES[config.sampling](model, lora, trajectories, on_pass)
        if config.solver == "solve":
            report(0, {}, 0.0, stage="solving")
        training = Training(Objective(model, lora, states, generator, adversary), history)
        if saved := checkpoint.load():
            training.resume(saved)  # fails before anything is saved over what it was given
        solver, done = training.solver, training.last_state.step
        with lora.attach(slices), _saved_at_the_end(training, checkpoint):
            if solver.solved:
                report(done, {}, 0.0, stage="solved")
            for step in range(done + 1, config.steps + 1):
                if solver.ended:
                    break
                losses, norm = training.step(step)
                if checkpoint.due(step):
                    checkpoint.save(training.snapshot())
                if solver.ended:
                    count.expected = count.forwards
                stage = "hardening" if "attack" in losses else "training"
                report(step, losses, norm, stage=stage, ended=bool(solver.ended))
        state, warnings = _used(lora.state_dict()), tuple(checkpoint.warnings)
        outcome = {"ended": solver.ended, "solved": solver.solved, "unsolved": solver.unsolved}
        return Erasure(state, history, count.forwards, warnings, **outcome)


def _used(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the adapters that do nothing, unless none does anything."""
    idle = {
        key.split(".lora_B.")[0] for key, up in state.items() if ".lora_B." in key and not up.any()
    }
    left = {
        key: each
        for key, each in state.items()
        if key.rsplit(".lora_", 1)[0].removesuffix(".alpha") not in idle
    }
    return left or state


def _trajectories(
    model: CountedModel,
    generator: Generator,
    checkpoint: Checkpoint,
    *,
    on_pass: Callable[[], None],
) -> Trajectories:
    """The checkpoint's where they are this training's and this model's; else new ones."""
    while saved := checkpoint.load_trajectories():
        if same_teacher(model, saved.trajectories.erase):
            if not checkpoint.resume:  # begun anew: what it has left may be overwritten
                break
            generator.set_state(saved.generator)
            model.count.forwards = saved.forwards
            return saved.trajectories
        checkpoint.beside("trajectories of another model")
    new = cache_all_trajectories(model, generator=generator, on_pass=on_pass)
    checkpoint.save_trajectories(
        SavedTrajectories(new, generator.get_state(), model.count.forwards)
    )
    return new


@contextmanager
def _saved_at_the_end(training: Training, checkpoint: Checkpoint) -> Iterator[None]:
    """Saves the last state, however the training inside ends: should the LoRA's own file come to
    nothing, no step is lost. What stopped the training is what rises.
    """
    try:
        yield
    except BaseException:  # cancelling is no Exception on newer hosts
        try:
            checkpoint.save(training.snapshot())
        except Exception:
            logging.getLogger(__name__).exception("The state of a stopped training is lost.")
        raise
    checkpoint.save(training.snapshot())


class Training:
    """Steps of a solver that can be told, saved, and resumed.

    A step whose losses or gradients are not finite is tried once more from the state before it,
    on other states of the trajectories.
    """

    def __init__(self, objective: Objective, history: dict[str, list[float]]) -> None:
        self.objective, self.history = objective, history
        self.solver = SOLVERS[objective.config.solver](objective)
        self.last_state = LastState(objective, self.solver)

    def step(self, step: int) -> tuple[dict[str, float], float]:
        try:
            losses, norm = self.solver.step(step)
        except FloatingPointError:
            self.last_state.restore()
            losses, norm = self.solver.step(step)
        for name, value in losses.items():
            self.history.setdefault(name, []).append(value)
        self.last_state.keep(step)
        return losses, norm

    def snapshot(self) -> Snapshot:
        """The last state, for a file."""
        return self.last_state.to_cpu(self.history)

    def resume(self, saved: Snapshot) -> None:
        self.history.update(saved.history)
        self.objective.generator.set_state(saved.generator)
        self.objective.model.count.forwards = saved.forwards
        self.objective.lora.load_state_dict(saved.lora)
        self.solver.load(saved.solver)
        self.last_state.keep(saved.step)


def expected_forwards(encoded: EncodedPrompts, config: EraseConfig) -> int:
    """How many samples a training sends through the model; a backward counts as two.

    Trajectories: `paths` x `trajectory_steps` x (2 for the concept's paths + 2 for the anchor's +
    1 for the keep prompts' + 1 for pictures that are to be drawn). Each step: 3 x `batch` + 3 x
    `keep_per_step` for each of L_keep and L_lora, and for L_rsc `keep_per_step` x (3 + 1 + K).

    Fresh: for trajectories 2; and for the states of each loss but L_lora a path and the teacher's
    answer, which L_rsc reads off its 1 + K paths.
    """
    weights, keep, trained = config.weights, config.keep_per_step, FORWARD_AND_BACKWARD
    sampled = config.trajectory_steps
    fresh, budget = config.sampling == "fresh", config.solver == "budget"
    step = config.batch * (trained + (sampled + 2 if fresh else 0))
    step += keep * (trained + (sampled + 1 if fresh else 0)) if weights.keep > 0 else 0
    step += keep * trained if weights.reconstruction > 0 else 0
    if weights.rsc > 0 and encoded.contrast is not None:
        step += keep * (trained + (1 + encoded.contrast.per_pair) * (sampled if fresh else 1))
    if not config.steps:
        return 0
    kept = config.keep_paths if keeps(config) else 0
    start = 2 if fresh else sampled * (4 * config.paths + kept)
    if weights.reconstruction > 0 and encoded.pictures is None:
        start += config.paths * sampled
    probes = config.steps // config.budget_every if budget else 0
    start += 2 * keep * (sampled + 1) if fresh and budget else 0
    return start + config.steps * step + probes * 2 * keep


def cost_in_words(encoded: EncodedPrompts, config: EraseConfig) -> str:
    """What a training costs, for people, against the recipe fast; where it may end early, at most.

    Previews come on top.
    """
    cost = expected_forwards(encoded, config)
    if not cost:
        return "It takes no pass of the model."
    most = "at most " if config.solver == "solve" else ""
    fast = expected_forwards(encoded, EraseConfig.from_recipe("fast"))
    times = f"{cost / fast:.1f} times those of the recipe fast (at most {fast:,})"
    return f"It takes {most}{cost:,} passes of the model{'' if cost == fast else f', {times}'}."
