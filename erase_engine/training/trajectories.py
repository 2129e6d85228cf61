"""Cached teacher trajectories: the states that training looks at, with the teacher's answers.

Sampled once before the loop. Sampling a trajectory for every step, as the paper does, costs more
than all the rest of the step, and the answers fall out of the sampling itself.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..flow import euler_path


@dataclass(frozen=True)
class TeacherOutput:
    """What the teacher says of B states, each of one prompt's path, under P prompts."""

    velocity: Tensor  # (B, C, h, w) along the path
    answers: Tensor  # (B, P, C, h, w) velocities under each of the prompts
    mass: Tensor  # (B, W) attention on each watched token; W = 0 where nobody watches


Teacher = Callable[
    [Tensor, Tensor, Tensor], TeacherOutput
]  # (x_t, t, rows of the prompts) -> its output


@dataclass(frozen=True)
class TrainingBatch:
    """States for one step, and what the teacher says of them."""

    x_t: Tensor  # (B, C, h, w)
    t: Tensor  # (B,)
    rows: Tensor  # (B,) the prompt whose path each is from
    answers: Tensor  # (B, P, C, h, w)
    mass: Tensor  # (B, W)


@dataclass(frozen=True)
class TrajectoryCache:
    """States of N paths at S times with the teacher's answers, on the CPU in float32."""

    states: Tensor  # (N, S, C, h, w)
    answers: Tensor  # (N, S, P, C, h, w)
    masses: Tensor  # (N, S, W)
    times: Tensor  # (S,) falling from 1
    rows: Tensor  # (N,) the prompt of each path

    def draw(self, count: int, generator: Generator, *, early: float = 1.0) -> TrainingBatch:
        """`count` states: paths uniformly at random, and times in the first `early` share."""
        times = math.ceil(early * len(self.times))
        n = torch.randint(len(self.states), (count,), generator=generator)
        s = torch.randint(times, (count,), generator=generator)
        x_t, answers, mass = self.states[n, s], self.answers[n, s], self.masses[n, s]
        return TrainingBatch(x_t, self.times[s], self.rows[n], answers, mass)

    @staticmethod
    def join(*banks: TrajectoryCache) -> TrajectoryCache:
        """All paths of several banks; their times must be the same."""
        names = ("states", "answers", "masses", "rows")
        joined = {name: torch.cat([getattr(bank, name) for bank in banks]) for name in names}
        return TrajectoryCache(times=banks[0].times, **joined)


def cache_trajectories(
    teacher: Teacher, rows: Tensor, *, noise: Tensor, times: Tensor, at_once: int
) -> TrajectoryCache:
    """Samples one path for each of `rows`, from the noise beside it.

    Args:
        teacher: asked once for each state; may raise to cancel.
        rows: (N,) prompts, one for each path.
        noise: (N, C, h, w).
        times: (S + 1,) from 1 to 0.
        at_once: paths sampled together.
    """
    parts = [
        _sample(teacher, some, start, times)
        for some, start in zip(rows.split(at_once), noise.split(at_once), strict=True)
    ]
    return TrajectoryCache.join(*parts)


def _sample(teacher: Teacher, rows: Tensor, noise: Tensor, times: Tensor) -> TrajectoryCache:
    answers, masses = [], []

    def velocity(x_t: Tensor, t: Tensor) -> Tensor:
        lesson = teacher(x_t, t, rows)
        answers.append(lesson.answers.cpu())
        masses.append(lesson.mass.cpu())
        return lesson.velocity.cpu()

    states = euler_path(velocity, noise, times)[:, :-1]
    return TrajectoryCache(
        states, torch.stack(answers, 1), torch.stack(masses, 1), times[:-1].cpu().clone(), rows
    )
