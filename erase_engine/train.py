"""The training loop: erase step, preserve step, and the two solvers that put them together."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor
from torch.nn.utils import clip_grad_norm_

from .backends.base import Capture, Conditioning, FlowBackend
from .bank import Bank, Draw, build_bank
from .config import EraseConfig
from .encoded import EncodedPlan
from .lora import LoraSet, target_names
from .losses import (
    ATTENTION_LOSSES,
    attention_feature,
    esd_loss,
    esd_target,
    keep_loss,
    rsc_loss,
)

PIXELS_PER_LATENT = 8
FORWARD_AND_BACKWARD = 3  # in forwards: a backward counts as two


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
    lora = LoraSet(
        slices,
        rank=config.lora.rank,
        alpha=config.lora.alpha,
        init=config.lora.init,
        generator=generator,
    )
    count = _Count(expected_forwards(encoded, config))

    def report(step: int, losses: dict[str, float], norm: float) -> None:
        on_step(StepReport(step, config.steps, losses, norm, count.forwards, count.expected))

    def sampled(forwards: int) -> None:
        count.forwards += forwards
        report(0, {}, 0.0)

    banks = _build_banks(backend, encoded, config, generator=generator, on_forwards=sampled)
    run = _Run(backend, encoded, config, lora, banks, generator, count)
    solver = _SOLVERS[config.solver](run)
    history: dict[str, list[float]] = {}
    with lora.attach(slices):
        for step in range(1, config.steps + 1):
            losses, norm = solver.step(step)
            for name, value in losses.items():
                history.setdefault(name, []).append(value)
            report(step, losses, norm)
    return Erasure(lora.state_dict(), history, count.forwards)


@dataclass
class _Count:
    """Samples through the model: so far, and of the whole training."""

    expected: int
    forwards: int = 0


def expected_forwards(encoded: EncodedPlan, config: EraseConfig) -> int:
    """How many samples a training sends through the model; a backward counts as two.

    3 banks of `trajectories` x `trajectory_steps`, then in each step `batch` x (2 teacher +
    1 student) and `keep_per_step` x (1 + 1), and for L_rsc (1 student + 1 + K teacher)
    """
    weights, keep, trained = config.weights, config.keep_per_step, FORWARD_AND_BACKWARD
    step = config.batch * (2 + trained)
    step += keep * (1 + trained) if weights.keep > 0 else 0
    if weights.rsc > 0 and encoded.contrast is not None:
        step += keep * (trained + 1 + encoded.contrast.per_pair)
    if config.solver == "budget":
        probes = config.steps // config.budget_every
        return _bank_forwards(config) + config.steps * step + probes * 2 * keep * 2
    return _bank_forwards(config) + config.steps * step


def _bank_forwards(config: EraseConfig) -> int:
    return 3 * config.trajectories * config.trajectory_steps


@dataclass(frozen=True)
class Banks:
    """States on paths of the concept and anchor prompts, and of the keep prompts."""

    erase: Bank
    keep: Bank


def _build_banks(
    backend: FlowBackend,
    encoded: EncodedPlan,
    config: EraseConfig,
    *,
    generator: Generator,
    on_forwards: Callable[[int], None],
) -> Banks:
    """Teacher paths. Concept and anchor share their noise: the erased model moves between them."""
    height, width = config.height // PIXELS_PER_LATENT, config.width // PIXELS_PER_LATENT
    times = backend.timesteps(config.trajectory_steps, height, width)
    shape = (config.trajectories, backend.latent_channels, height, width)

    def paths(cond: Conditioning, rows: Tensor, noise: Tensor) -> Bank:
        return build_bank(backend, cond, rows, noise=noise, times=times, on_forwards=on_forwards)

    noise = torch.randn(shape, generator=generator)
    rows = _every_row(len(encoded.concept), len(noise), generator)
    erase = Bank.join(paths(encoded.concept, rows, noise), paths(encoded.anchor, rows, noise))
    rows = _every_row(len(encoded.keep), len(noise), generator)
    return Banks(erase, paths(encoded.keep, rows, torch.randn(shape, generator=generator)))


def _every_row(rows: int, count: int, generator: Generator) -> Tensor:
    """`count` row numbers in random order, none used twice before all are used once."""
    rounds = [torch.randperm(rows, generator=generator) for _ in range(math.ceil(count / rows))]
    return torch.cat(rounds)[:count]


@dataclass
class _Run:
    """One training: what does not change, and the count of forwards."""

    backend: FlowBackend
    encoded: EncodedPlan
    config: EraseConfig
    lora: LoraSet
    banks: Banks
    generator: Generator
    count: _Count
    blocks: tuple[int, ...] = field(init=False)

    def __post_init__(self) -> None:
        count, chosen = self.backend.double_blocks, self.config.attention_blocks
        numbers = range(count) if chosen == "all" else chosen
        self.blocks = tuple(index % count if index < 0 else index for index in numbers)

    def erase_losses(self) -> dict[str, Tensor]:
        """L_esd, and L_attn where it counts, on states of the concept's and anchor's paths."""
        config, weights = self.config, self.config.weights
        draw = self.banks.erase.draw(config.batch, self.generator)
        concept = self.encoded.concept.take(draw.rows)
        tokens = self.encoded.tokens[draw.rows]
        watched = weights.attention > 0
        student, student_mass = self._student(draw, concept, tokens if watched else None)
        # The teacher sees both prompts in one batch; nothing of the anchor's is watched.
        both = Conditioning.cat([concept, self.encoded.anchor.take(draw.rows)])
        watch = torch.cat([tokens, torch.full_like(tokens, -1)]) if watched else None
        v, mass = self._teacher(_twice(draw), both, watch)
        v_concept, v_anchor = v.chunk(2)
        target = esd_target(v_concept, v_anchor, config.negative_guidance)
        losses = {"esd": esd_loss(student, target)}
        if watched:
            loss = ATTENTION_LOSSES[config.attention_form]
            losses["attention"] = loss(student_mass, [block.chunk(2)[0] for block in mass])
        return losses

    def preserve_losses(self) -> dict[str, Tensor]:
        """L_keep and L_rsc, those that count."""
        weights, losses = self.config.weights, {}
        if weights.keep > 0:
            draw = self.banks.keep.draw(self.config.keep_per_step, self.generator)
            losses["keep"] = self.keep_loss(draw)
        if weights.rsc > 0 and self.encoded.contrast is not None:
            losses["rsc"] = self._rsc_loss()
        return losses

    def keep_loss(self, draw: Draw) -> Tensor:
        """L_keep on given states of the keep prompts' paths."""
        cond = self.encoded.keep.take(draw.rows)
        return keep_loss(self._student(draw, cond, None)[0], self._teacher(draw, cond, None)[0])

    def _rsc_loss(self) -> Tensor:
        """L_rsc on one state for all of a sentence's words: concept, synonym, K irrelevant."""
        contrast = self.encoded.contrast
        assert contrast is not None
        draw = self.banks.erase.draw(self.config.keep_per_step, self.generator)
        rows, k = draw.rows, contrast.per_pair
        other_rows = (rows[:, None] * k + torch.arange(k)).flatten()
        repeated = Draw(draw.x_t.repeat_interleave(k, 0), draw.t.repeat_interleave(k), other_rows)
        feature = self._feature(draw, self.encoded.concept, self.encoded.tokens, student=True)
        synonym = self._feature(draw, contrast.synonym, contrast.synonym_tokens)
        others = self._feature(repeated, contrast.irrelevant, contrast.irrelevant_tokens)
        others = others.unflatten(0, (len(rows), k))
        return rsc_loss(feature, synonym, others, self.config.rsc_temperature)

    def _feature(
        self, draw: Draw, cond: Conditioning, tokens: Tensor, *, student: bool = False
    ) -> Tensor:
        """F of the words at `tokens`: the student's with gradient, else the teacher's."""
        run = self._student if student else self._teacher
        watched = tokens[draw.rows]
        _, mass = run(draw, cond.take(draw.rows), watched)
        return attention_feature(mass, watched.to(mass[0].device))

    def _student(
        self, draw: Draw, cond: Conditioning, tokens: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        passes = FORWARD_AND_BACKWARD if torch.is_grad_enabled() else 1
        self.count.forwards += passes * len(draw.x_t)
        return self._velocity(draw, cond, tokens)

    @torch.no_grad()
    def _teacher(
        self, draw: Draw, cond: Conditioning, tokens: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        self.count.forwards += len(draw.x_t)
        with self.lora.disabled():
            return self._velocity(draw, cond, tokens)

    def _velocity(
        self, draw: Draw, cond: Conditioning, tokens: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Velocity, and the attention mass on `tokens` in each watched block."""
        capture = None if tokens is None else Capture(tokens, self.blocks)
        v = self.backend.velocity(draw.x_t, draw.t, cond, capture=capture)
        return v, [] if capture is None else [capture.mass[block] for block in self.blocks]


def _twice(draw: Draw) -> Draw:
    """The same states for two prompts each."""
    return Draw(draw.x_t.repeat(2, 1, 1, 1), draw.t.repeat(2), draw.rows.repeat(2))


class _Alternate:
    """One erase step, then one preserve step at a lower rate, on one LoRA (the paper's solver)."""

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.updates = _Updates(run)

    def step(self, step: int) -> tuple[dict[str, float], float]:
        rate = self.run.config.rate_at(step)
        erase = self.run.erase_losses()
        norm = self.updates.apply(_weighted(self.run, erase), rate=rate)
        losses = _values(erase, step)
        preserve = self.run.preserve_losses()
        if preserve:
            rate *= self.run.config.keep_learning_rate_ratio
            norm = max(norm, self.updates.apply(_weighted(self.run, preserve), rate=rate))
        return losses | _values(preserve, step), norm


class _Budget:
    """One step on L_erase + mu L_preserve; mu rises while the drift is above its budget.

        mu <- max(0, mu + beta (L_keep - budget) / budget)

    with L_keep measured on the same states every time, so that only the LoRA moves it.
    """

    def __init__(self, run: _Run) -> None:
        self.run = run
        self.updates = _Updates(run)
        self.multiplier = 1.0
        self.probe = run.banks.keep.draw(2 * run.config.keep_per_step, run.generator)

    def step(self, step: int) -> tuple[dict[str, float], float]:
        rate = self.run.config.rate_at(step)
        losses = self.run.erase_losses() | self.run.preserve_losses()
        norm = self.updates.apply(_weighted(self.run, losses, self.multiplier), rate=rate)
        if step % self.run.config.budget_every == 0:
            self._follow_drift()
        return _values(losses, step) | {"multiplier": self.multiplier}, norm

    @torch.no_grad()
    def _follow_drift(self) -> None:
        config = self.run.config
        drift = self.run.keep_loss(self.probe).item()
        excess = (drift - config.drift_budget) / max(config.drift_budget, 1e-8)
        self.multiplier = max(0.0, self.multiplier + config.budget_rate * excess)


_SOLVERS: dict[str, type[_Alternate] | type[_Budget]] = {
    "alternate": _Alternate,
    "budget": _Budget,
}


class _Updates:
    """AdamW on the LoRA, with a learning rate for each update and clipped gradients."""

    def __init__(self, run: _Run) -> None:
        self.config = run.config
        self.parameters = run.lora.parameters()
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=run.config.learning_rate, weight_decay=run.config.weight_decay
        )

    def apply(self, loss: Tensor, *, rate: float) -> float:
        """One step down `loss` at `rate` times the learning rate; returns the gradient's norm."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        limit = self.config.gradient_clip or math.inf
        norm = clip_grad_norm_(self.parameters, limit).item()
        self.optimizer.param_groups[0]["lr"] = self.config.learning_rate * rate
        self.optimizer.step()
        return norm


_PRESERVING = ("keep", "rsc")


def _weighted(run: _Run, losses: dict[str, Tensor], multiplier: float = 1.0) -> Tensor:
    """The losses' weighted sum; those that preserve also count `multiplier`."""
    total = torch.zeros(())
    for name, loss in losses.items():
        factor = multiplier if name in _PRESERVING else 1.0
        total = total.to(loss.device) + factor * getattr(run.config.weights, name) * loss
    return total


def _values(losses: dict[str, Tensor], step: int) -> dict[str, float]:
    """The losses as numbers; raises FloatingPointError where one is not finite."""
    values = {name: loss.item() for name, loss in losses.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"Got {value} for the {name} loss in step {step}, expected a finite number. "
                "Lower the learning rate or the strength of erasure."
            )
    return values
