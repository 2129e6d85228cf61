"""The teacher: the model with the adapter off, and its velocities along the cached paths."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Generator, Tensor

from ..config import EraseConfig
from ..interfaces import AttentionCapture, Conditioning, FlowModel
from .encoded_prompts import EncodedPrompts
from .losses import attention_mass
from .trajectories import TeacherOutput, TrajectoryCache, cache_trajectories

FORWARD_AND_BACKWARD = 3  # in forwards: a backward counts as two
SAME_TEACHER = 1e-4  # relative difference of one model's velocities on two machines


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
        return self.config.watched_blocks(self.backend.joint_blocks)

    def velocity(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, tokens: Tensor | None
    ) -> tuple[Tensor, list[Tensor]]:
        """Velocity, and the attention mass on `tokens` in each watched block."""
        self.count.forwards += len(x_t) * (FORWARD_AND_BACKWARD if torch.is_grad_enabled() else 1)
        capture = None
        if tokens is not None:  # to the device once, not in every block
            capture = AttentionCapture(tokens.to(self.backend.device), self.blocks)
        v = self.backend.velocity(x_t, t, cond, capture=capture)
        return v, [] if capture is None else [capture.mass[block] for block in self.blocks]

    def erase_teacher(
        self, x_t: Tensor, t: Tensor, rows: Tensor, *, follow_anchor: bool = False
    ) -> TeacherOutput:
        """The teacher under the concept prompts and the anchor prompts of `rows`.

        Both go in one batch; nothing of the anchor's prompt is watched. The path follows the
        concept's velocity, or with `follow_anchor` the anchor's.
        """
        both = Conditioning.cat([self.encoded.concept.take(rows), self.encoded.anchor.take(rows)])
        tokens = None
        if self.watched:
            tokens = self.encoded.tokens.take(rows).all
            tokens = torch.cat([tokens, torch.full_like(tokens, -1)])
        v, blocks = self.velocity(x_t.repeat(2, 1, 1, 1), t.repeat(2), both, tokens)
        mass = attention_mass(blocks).chunk(2)[0] if blocks else torch.zeros(len(rows), 0)
        return TeacherOutput(torch.stack(v.chunk(2), dim=1), mass, follow=int(follow_anchor))

    def keep_teacher(self, x_t: Tensor, t: Tensor, rows: Tensor) -> TeacherOutput:
        """The teacher under the keep prompts of `rows`, where nothing is watched."""
        v, _ = self.velocity(x_t, t, self.encoded.keep.take(rows), None)
        return TeacherOutput(v[:, None], torch.zeros(len(rows), 0))


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
    cached = partial(cache_trajectories, times=times, at_once=config.batch, on_pass=on_pass)
    noise = torch.randn(shape, generator=generator)
    rows = _every_row(len(model.encoded.concept), len(noise), generator)
    concept = cached(model.erase_teacher, rows, noise=noise)
    anchor = cached(partial(model.erase_teacher, follow_anchor=True), rows, noise=noise)
    keep = None
    if keeps(config):
        rows = _every_row(len(model.encoded.keep), len(noise), generator)
        noise = torch.randn(shape, generator=generator)
        keep = cached(model.keep_teacher, rows, noise=noise)
    return Trajectories(TrajectoryCache.join(concept, anchor), keep)


def same_teacher(model: CountedModel, erase: TrajectoryCache) -> bool:
    """Whether the paths of concept and anchor are this model's: it is asked again.

    The first states only, in the batch in which they were asked first, so that the same model on
    the same machine gives the same bits. Not counted: the training itself needs no such pass.
    """
    first = slice(0, model.config.batch)
    rows, known = erase.rows[first], erase.teacher_velocity[first, 0]
    uncounted = replace(model, count=ForwardCount(0))
    with torch.no_grad():
        t = erase.times[:1].expand(len(rows))
        found = uncounted.erase_teacher(erase.states[first, 0], t, rows).teacher_velocity.cpu()
    return bool((found - known).norm() <= SAME_TEACHER * known.norm())


def _every_row(rows: int, count: int, generator: Generator) -> Tensor:
    """`count` row numbers in random order, none used twice before all are used once."""
    rounds = [torch.randperm(rows, generator=generator) for _ in range(math.ceil(count / rows))]
    return torch.cat(rounds)[:count]


def keeps(config: EraseConfig) -> bool:
    """Whether the keep prompts' paths are needed: for L_keep, or for the drift."""
    return config.weights.keep > 0 or config.solver == "budget"
