"""Cached teacher trajectories: the states that training looks at, with the teacher's velocities.

Sampled once before the loop. Sampling a trajectory for every step, as the paper does, costs more
than all the rest of the step, and the velocities fall out of the sampling itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Generator, Tensor

from ..flow import euler_step, require_finite
from .importance import Draws, Importance


@dataclass(frozen=True)
class TeacherOutput:
    """What the teacher gives for B states, each on the path of one prompt, under P prompts."""

    teacher_velocity: Tensor  # (B, P, C, h, w) velocities under each of the prompts
    mass: Tensor  # (B, W) attention on each watched token; W = 0 where none is watched
    path: Tensor  # (B, C, h, w) the velocity that the path follows


# (x_t, t, rows of the prompts) -> its output
Teacher = Callable[[Tensor, Tensor, Tensor], TeacherOutput]


@dataclass(frozen=True)
class TrainingBatch:
    """States for one step, with the teacher's output there."""

    x_t: Tensor  # (B, C, h, w)
    t: Tensor  # (B,)
    rows: Tensor  # (B,) the prompt whose path each is from
    teacher_velocity: Tensor  # (B, P, C, h, w)
    mass: Tensor  # (B, W)
    draws: Draws | None = None  # of its paths, where they were drawn by importance

    def mean_of(self, losses: Callable[[Tensor], Tensor], v: Tensor) -> Tensor:
        """The mean over all states of `losses` (B,), a function of the velocities.

        Later draws go by them, where draws go by importance. For that they are computed on the
        CPU, which waits for the velocities: cards of two kinds round differently, and all
        processes have to draw the same.
        """
        if self.draws:
            self.draws.importance.learn(self.draws, losses(v.detach().cpu()))
        return self.counted(losses(v)).mean()

    def counted(self, losses: Tensor) -> Tensor:
        """(B,) losses, whose mean is that over all states."""
        return self.draws.counted(losses) if self.draws else losses


@dataclass(frozen=True)
class TrajectoryCache:
    """States of N paths at S times with the teacher's output, on the CPU in float32."""

    states: Tensor  # (N, S, C, h, w)
    teacher_velocity: Tensor  # (N, S, P, C, h, w)
    mass: Tensor  # (N, S, W)
    times: Tensor  # (S,) falling from 1
    rows: Tensor  # (N,) the prompt of each path

    def draw(
        self,
        count: int,
        generator: Generator,
        *,
        early: float = 1.0,
        importance: Importance | None = None,
    ) -> TrainingBatch:
        """`count` states: paths by importance or uniformly, times in the first `early` share."""
        draws = importance.draw(count, generator) if importance else None
        n = draws.paths if draws else torch.randint(len(self.rows), (count,), generator=generator)
        s = torch.randint(self.drawn(early), (count,), generator=generator)
        found = self.states[n, s], self.times[s], self.rows[n]
        return TrainingBatch(*found, self.teacher_velocity[n, s], self.mass[n, s], draws)

    def drawn(self, early: float) -> int:
        """How many times are in the first `early` share."""
        return math.ceil(early * len(self.times))

    @staticmethod
    def join(*caches: TrajectoryCache) -> TrajectoryCache:
        """All paths of several caches; their times must be the same."""
        names = ("states", "teacher_velocity", "mass", "rows")
        joined = {name: torch.cat([getattr(one, name) for one in caches]) for name in names}
        return TrajectoryCache(times=caches[0].times, **joined)


@torch.no_grad()
def cache_trajectories(
    teacher: Teacher,
    rows: Tensor,
    *,
    noise: Tensor,
    times: Tensor,
    at_once: int,
    on_pass: Callable[[], None] = lambda: None,
) -> TrajectoryCache:
    """Samples one path for each of `rows`, from the noise beside it, by Euler's method.

    Args:
        teacher: called once for each state.
        rows: (N,) prompts, one for each path.
        noise: (N, C, h, w).
        times: (S + 1,) from 1 to 0.
        at_once: paths sampled together.
        on_pass: called after each call of the teacher; may raise to cancel.

    Raises ValueError where a velocity is not finite: it is no training's fault.
    """
    parts = []
    for some, start in zip(rows.split(at_once), noise.split(at_once), strict=True):
        states, velocities, masses = [start], [], []
        for t, t_next in pairwise(times):
            x_t = states[-1]
            output = teacher(x_t, t.expand(len(x_t)).to(x_t), some)
            on_pass()
            velocities.append(require_finite("a velocity", output.teacher_velocity.cpu()))
            masses.append(output.mass.cpu())
            states.append(euler_step(x_t, output.path.cpu(), t, t_next))
        found = [torch.stack(each, dim=1) for each in (states[:-1], velocities, masses)]
        parts.append(TrajectoryCache(*found, times=times[:-1].cpu().clone(), rows=some))
    return TrajectoryCache.join(*parts)
