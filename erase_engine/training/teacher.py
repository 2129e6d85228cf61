"""The teacher: the model with the adapter off, and its answers at the states of the banks."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from ..config import EraseConfig
from ..interfaces import AttentionCapture, Conditioning, FlowModel
from .encoded_prompts import EncodedPrompts
from .losses import attention_mass
from .trajectories import Teacher, TeacherOutput, TrajectoryCache, cache_trajectories

FORWARD_AND_BACKWARD = 3  # in forwards: a backward counts as two
SAME_ANSWERS = 1e-4  # relative difference of one model's answers from one day to another


@dataclass
class ForwardCount:
    """Samples through the model: so far, and of the whole training."""

    expected: int
    forwards: int = 0


@dataclass(frozen=True)
class CountedModel:
    """The model with the plan's prompts: every pass goes through here and is counted."""

    backend: FlowModel
    encoded: EncodedPrompts
    config: EraseConfig
    count: ForwardCount

    @property
    def watched(self) -> bool:
        """Whether L_attn counts."""
        return self.config.weights.attention > 0

    @property
    def blocks(self) -> tuple[int, ...]:
        """The double blocks whose attention is read."""
        count, chosen = self.backend.joint_blocks, self.config.attention_blocks
        numbers = range(count) if chosen == "all" else chosen
        return tuple(index % count if index < 0 else index for index in numbers)

    def velocity(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, tokens: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Velocity, and the attention mass on `tokens` in each watched block."""
        self.count.forwards += len(x_t) * (FORWARD_AND_BACKWARD if torch.is_grad_enabled() else 1)
        capture = None if tokens is None else AttentionCapture(tokens, self.blocks)
        v = self.backend.velocity(x_t, t, cond, capture=capture)
        return v, [] if capture is None else [capture.mass[block] for block in self.blocks]

    def erase_teacher(self, *, follow_anchor: bool) -> Teacher:
        """The teacher on the concept's paths or the anchor's, where it is asked for both prompts.

        Both go in one batch; nothing of the anchor's prompt is watched.
        """

        def teach(x_t: Tensor, t: Tensor, rows: Tensor) -> TeacherOutput:
            both = Conditioning.cat(
                [self.encoded.concept.take(rows), self.encoded.anchor.take(rows)]
            )
            tokens = self.encoded.tokens.take(rows).all
            tokens = torch.cat([tokens, torch.full_like(tokens, -1)]) if self.watched else None
            v, blocks = self.velocity(x_t.repeat(2, 1, 1, 1), t.repeat(2), both, tokens)
            answers = torch.stack(v.chunk(2), dim=1)  # (B, 2, C, h, w): concept, anchor
            mass = attention_mass(blocks).chunk(2)[0] if blocks else torch.zeros(len(rows), 0)
            return TeacherOutput(answers[:, int(follow_anchor)], answers, mass)

        return teach

    def keep_teacher(self, x_t: Tensor, t: Tensor, rows: Tensor) -> TeacherOutput:
        """The teacher on the keep prompts' paths: it wants of the student what it does itself."""
        v, _ = self.velocity(x_t, t, self.encoded.keep.take(rows), None)
        return TeacherOutput(v, v[:, None], torch.zeros(len(rows), 0))


@dataclass(frozen=True)
class Trajectories:
    """States on paths of the concept and anchor prompts, and of the keep prompts."""

    erase: TrajectoryCache
    keep: TrajectoryCache | None


def cache_all_trajectories(
    model: CountedModel, *, generator: Generator, on_pass: Callable[[], None]
) -> Trajectories:
    """Teacher paths. Concept and anchor share their noise: the erased model moves between them."""
    config, backend = model.config, model.backend
    times = backend.timesteps(config.trajectory_steps, *config.latent_size)
    shape = (config.paths, backend.latent_channels, *config.latent_size)

    def paths(teacher: Teacher, rows: Tensor, noise: Tensor) -> TrajectoryCache:
        def teach(*states: Tensor) -> TeacherOutput:
            lesson = teacher(*states)
            on_pass()
            return lesson

        return cache_trajectories(teach, rows, noise=noise, times=times, at_once=config.batch)

    noise = torch.randn(shape, generator=generator)
    rows = _every_row(len(model.encoded.concept), len(noise), generator)
    concept, anchor = (
        paths(model.erase_teacher(follow_anchor=follow), rows, noise) for follow in (False, True)
    )
    keep = None
    if keeps(config):
        rows = _every_row(len(model.encoded.keep), len(noise), generator)
        keep = paths(model.keep_teacher, rows, torch.randn(shape, generator=generator))
    return Trajectories(TrajectoryCache.join(concept, anchor), keep)


def same_teacher(model: CountedModel, bank: TrajectoryCache) -> bool:
    """Whether a bank of concept and anchor paths is this model's: it is asked again.

    The first states only, in the batch in which they were asked first, so that the same model on
    the same machine gives the same bits. Not counted: the training itself needs no such pass.
    """
    some = slice(0, model.config.batch)
    teach = replace(model, count=ForwardCount(0)).erase_teacher(follow_anchor=False)
    with torch.no_grad():
        answers = teach(
            bank.states[some, 0], bank.times[:1].expand(len(bank.rows[some])), bank.rows[some]
        ).answers
    known = bank.answers[some, 0]
    return bool((answers.cpu() - known).norm() <= SAME_ANSWERS * known.norm())


def _every_row(rows: int, count: int, generator: Generator) -> Tensor:
    """`count` row numbers in random order, none used twice before all are used once."""
    rounds = [torch.randperm(rows, generator=generator) for _ in range(math.ceil(count / rows))]
    return torch.cat(rounds)[:count]


def keeps(config: EraseConfig) -> bool:
    """Whether anybody looks at the keep prompts' paths: L_keep, or the drift it measures."""
    return config.weights.keep > 0 or config.solver == "budget"
