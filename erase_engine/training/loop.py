"""The training loop: a closed form where there is one, trajectories, then steps, each reported."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from torch import Generator, Tensor

from ..config import EraseConfig
from ..interfaces import FlowModel, LinearSlice
from ..lora.adapters import adapted_layers, without_idle
from .checkpoint import Checkpoint, SavedTrajectories
from .cost import expected_forwards
from .encoded_prompts import EncodedPrompts
from .last_state import LastState, Snapshot
from .objective import STATES, Objective
from .solvers.adversary import Adversary
from .solvers.solve import BY_DEGREES, entrances_of
from .solvers.table import SOLVERS
from .states.cached import importance_of
from .teacher import (
    CountedModel,
    ForwardCount,
    Trajectories,
    cache_all_trajectories,
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

    @property
    def last(self) -> bool:
        """Whether no step comes after this one."""
        return self.step == self.total

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
    ended: str = ""  # what has become of a closed form, or why it ended sooner, in words
    solved: bool = False  # a closed form erases the concept
    unsolved: float = 1.0  # of the change that a closed form is to make, the share not made

    @property
    def figures(self) -> dict[str, Any]:
        """Steps that were done, passes, each loss's last value."""
        last = {name: values[-1] for name, values in self.history.items()}
        return {"steps": steps_in(self.history), "forwards": self.forwards, "last_losses": last}


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
    model = CountedModel(backend, encoded, config, ForwardCount(0))
    tell = Teller(on_step, config.steps, model.count)
    with checkpoint.opened(encoded, config):
        objective = _objective(model, slices, generator, checkpoint, tell)
        training = Training(objective, tell.history)
        if saved := checkpoint.load():
            training.resume(saved)  # fails before anything is saved over what it was given
        with objective.lora.attach(slices), _saved_at_the_end(training, checkpoint):
            training.run(checkpoint, tell)
        return training.outcome(tuple(checkpoint.warnings))


@dataclass
class Teller:
    """Tells of a training's steps, and of passes that sample."""

    on_step: OnStep
    total: int  # steps that are to be done
    count: ForwardCount
    history: dict[str, list[float]] = field(default_factory=dict)

    def __call__(self, step: int, losses: dict[str, float], norm: float, **told: Any) -> None:
        spent = self.count.forwards, max(self.count.expected, self.count.forwards)
        self.on_step(StepReport(step, self.total, losses, norm, *spent, self.history, **told))

    def sampled(self) -> None:
        """After a pass that samples, before the first step or within one."""
        step = steps_in(self.history)
        self(step, {}, 0.0, stage="training" if step else "sampling")


def steps_in(history: Mapping[str, list[float]]) -> int:
    """How many steps are done: not every step has every loss."""
    return max(map(len, history.values()), default=0)


def _objective(
    model: CountedModel,
    slices: dict[str, LinearSlice],
    generator: Generator,
    checkpoint: Checkpoint,
    tell: Teller,
) -> Objective:
    """New adapters, and the losses on states that are sampled now or were before; without steps
    there are none.

    A closed form goes first: what is left to do depends on what it can do.
    """
    entrances, trajectories, adversary = None, None, None
    if model.config.solver == "solve":
        tell(0, {}, 0.0, stage="solving")
        entrances = entrances_of(model)
        soft = entrances.soft or model.encoded.kind in BY_DEGREES
        most, kept = model.config.after_solving(), len(model.encoded.keep)
        phrase = model.encoded.concepts == 1 and kept >= most.keep_trajectories
        left = model.config.after_solving(solved=entrances.solved, soft=soft, phrase=phrase)
        model, tell.total = replace(model, config=left), left.steps
    config, guided = model.config, model.backend.cfg != 1
    numbers = {"rank": config.lora.rank, "alpha": config.lora.alpha, "init": config.lora.init}
    lora = model.backend.adapters(slices, **numbers, generator=generator)
    model.count.expected = expected_forwards(model.encoded, config, guided=guided)
    if config.attack:
        radius, rate = config.attack, config.attack_rate
        adversary = Adversary(model.encoded, radius=radius, rate=rate, device=model.backend.device)
    if config.steps:
        trajectories = _trajectories(model, generator, checkpoint, on_pass=tell.sampled)
    importance = importance_of(trajectories, config)
    states = STATES[config.sampling](model, lora, trajectories, tell.sampled, importance)
    return Objective(model, lora, states, generator, adversary, entrances)


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

    def run(self, checkpoint: Checkpoint, tell: Teller) -> None:
        """Takes the steps that are left; saves and tells of them."""
        step, count = self.last_state.step, self.objective.model.count
        if self.solver.solved:
            tell(step, {}, 0.0, stage="solved")
        while step < self.solver.last:
            step, before = step + 1, count.forwards
            losses, norm = self.step(step)
            if self.solver.last < self.objective.config.steps:  # it ends sooner
                tell.total = self.solver.last
                left = (tell.total - step) * (count.forwards - before)
                count.expected = count.forwards + left
            if checkpoint.due(step):
                checkpoint.save(self.snapshot())
            tell(step, losses, norm, stage="hardening" if "attack" in losses else "training")

    def outcome(self, warnings: tuple[str, ...]) -> Erasure:
        """What the steps so far have made."""
        solver, objective = self.solver, self.objective
        told = {"ended": solver.ended, "solved": solver.solved, "unsolved": solver.unsolved}
        state, forwards = without_idle(objective.lora.state_dict()), objective.model.count.forwards
        return Erasure(state, self.history, forwards, warnings, **told)

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
