"""The teacher: the model with the adapter off, and its velocities along the cached paths."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import count as numbers

import torch
from torch import Generator, Tensor

from ..config import EraseConfig
from ..flow import euler_path
from ..interfaces import AttentionCapture, Conditioning, FlowModel
from ..sampling import guided
from .encoded_prompts import EncodedPrompts
from .losses import attention_feature, attention_mass
from .states.pictures import Pictures
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
        if torch.is_grad_enabled() and not v.requires_grad:
            raise ValueError(
                "Got a velocity without a gradient, expected one that training can follow. Take "
                "caches and other nodes that wrap the model's forward pass off the model."
            )
        return v, [] if capture is None else [capture.mass[block] for block in self.blocks]

    @property
    def times(self) -> Tensor:
        """(S + 1,) of a path, from 1 to 0."""
        _, height, width = self.latent_shape
        return self.backend.timesteps(self.config.trajectory_steps, height, width)

    @property
    def latent_shape(self) -> tuple[int, int, int]:
        """(C, h, w) of what is trained on."""
        return self.backend.latents.shape(self.config.height, self.config.width)

    def noise(self, count: int, generator: Generator) -> Tensor:
        """(count, C, h, w): what paths begin with."""
        return torch.randn(count, *self.latent_shape, generator=generator)

    def path(
        self,
        cond: Conditioning,
        noise: Tensor,
        *,
        on_pass: Callable[[], None],
        tokens: Tensor | None = None,
        read_at: int = -1,
    ) -> tuple[Tensor, list[Tensor]]:
        """(B, S + 1, C, h, w) every state from noise to picture; attention in pass `read_at`.

        The attention is that on `tokens` in each watched block, as `velocity` gives it.
        """
        read: list[Tensor] = []
        passes = numbers()

        def velocity(x_t: Tensor, t: Tensor) -> Tensor:
            watched = tokens if next(passes) == read_at else None
            v, blocks = self.velocity(x_t, t, cond, watched)
            read.extend(blocks)
            on_pass()
            return self.guided(x_t, t, v).cpu()

        return euler_path(velocity, noise, self.times), read

    def guided(self, x_t: Tensor, t: Tensor, v: Tensor) -> Tensor:
        """Where a path goes whose prompt's velocity is `v`.

        The losses compare velocities under prompts themselves, which is what guidance is made of.
        """
        if self.backend.cfg != 1:
            self.count.forwards += len(x_t)
        return guided(self.backend, x_t, t, v, self.encoded.unconditional)

    def feature(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, tokens: Tensor, rows: Tensor
    ) -> Tensor:
        """F of the words at `tokens` in the prompts `rows`."""
        _, blocks = self.velocity(x_t, t, cond.take(rows), tokens[rows])
        return attention_feature(blocks, tokens[rows].to(blocks[0].device))

    def erase_teacher(
        self, x_t: Tensor, t: Tensor, rows: Tensor, *, follow: int | None = None
    ) -> TeacherOutput:
        """The teacher under the concept prompts and the anchor prompts of `rows`.

        Both go in one batch; nothing of the anchor's prompt is watched. A path may `follow` the
        concept (0) or the anchor (1).
        """
        both = Conditioning.cat([self.encoded.concept.take(rows), self.encoded.anchor.take(rows)])
        tokens = None
        if self.watched:
            tokens = self.encoded.tokens.take(rows).all
            tokens = torch.cat([tokens, torch.full_like(tokens, -1)])
        v, blocks = self.velocity(x_t.repeat(2, 1, 1, 1), t.repeat(2), both, tokens)
        mass = attention_mass(blocks).chunk(2)[0] if blocks else torch.zeros(len(rows), 0)
        each = v.chunk(2)
        path = each[0] if follow is None else self.guided(x_t, t, each[follow])
        return TeacherOutput(torch.stack(each, dim=1), mass, path)

    def keep_teacher(
        self, x_t: Tensor, t: Tensor, rows: Tensor, *, follow: int | None = None
    ) -> TeacherOutput:
        """The teacher under the keep prompts of `rows`, where nothing is watched."""
        v, _ = self.velocity(x_t, t, self.encoded.keep.take(rows), None)
        path = v if follow is None else self.guided(x_t, t, v)
        return TeacherOutput(v[:, None], torch.zeros(len(rows), 0), path)


@dataclass(frozen=True)
class Trajectories:
    """States on paths of the concept and anchor prompts, and of the keep prompts; pictures.

    Where paths are sampled afresh, `erase` is one state, by which the model is known again.
    """

    erase: TrajectoryCache
    keep: TrajectoryCache | None
    pictures: Pictures | None = None


def cache_all_trajectories(
    model: CountedModel, *, generator: Generator, on_pass: Callable[[], None]
) -> Trajectories:
    """Teacher paths: half of the prompts' under the concept, the others' under the anchor."""
    config = model.config
    cached = partial(cache_trajectories, times=model.times, at_once=config.batch, on_pass=on_pass)
    fresh = config.sampling == "fresh"
    noise = model.noise(1 if fresh else 2 * config.paths, generator)
    rows = _every_row(len(model.encoded.concept), len(noise), generator)
    if fresh:
        first = cached(model.erase_teacher, rows, noise=noise, times=model.times[:2])
        return Trajectories(first, None, pictures_to_keep(model, generator, on_pass))
    halves = zip((0, 1), rows.chunk(2), noise.chunk(2), strict=True)
    concept, anchor = (
        cached(partial(model.erase_teacher, follow=prompt), some, noise=start)
        for prompt, some, start in halves
    )
    keep = None
    if keeps(config) and config.keep_paths:
        rows = _every_row(len(model.encoded.keep), config.keep_paths, generator)
        noise = model.noise(config.keep_paths, generator)
        keep = cached(partial(model.keep_teacher, follow=0), rows, noise=noise)
    pictures = pictures_to_keep(model, generator, on_pass)
    return Trajectories(TrajectoryCache.join(concept, anchor), keep, pictures)


@torch.no_grad()
def pictures_to_keep(
    model: CountedModel, generator: Generator, on_pass: Callable[[], None]
) -> Pictures | None:
    """Those that were given, in the order of the keep prompts; else drawn by the teacher.

    None where no loss looks at them. Raises ValueError where given ones have another size.
    """
    config, keep, given = model.config, model.encoded.keep, model.encoded.pictures
    if config.weights.reconstruction == 0:
        return None
    if given is not None:
        expected = model.latent_shape
        if not len(given) or given.shape[1:] != expected:
            raise ValueError(
                f"Got latents {tuple(given.shape)} of pictures to keep, expected one or more of "
                f"{expected}. Encode them at the training's resolution."
            )
        return Pictures(given.float().cpu(), torch.arange(len(given)) % len(keep))
    rows = _every_row(len(keep), config.paths, generator)
    noise = model.noise(len(rows), generator)
    drawn = [
        model.path(keep.take(some), start, on_pass=on_pass)[0][:, -1]
        for some, start in zip(rows.split(config.batch), noise.split(config.batch), strict=True)
    ]
    return Pictures(torch.cat(drawn), rows)


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
