"""Cached teacher trajectories: the states that training looks at, sampled once before the loop.

Sampling a trajectory for every step, as the paper does, costs more than all the rest of the step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from .backends.base import Conditioning, FlowBackend
from .flow import euler_path

SAMPLED_AT_ONCE = 16


@dataclass(frozen=True)
class Draw:
    """States for one step: x_t (B, C, h, w), t (B,), and which prompt's path each is from."""

    x_t: Tensor
    t: Tensor
    rows: Tensor  # (B,) rows of the conditioning that the bank was built from


@dataclass(frozen=True)
class Bank:
    """States of N paths at S times, on the CPU."""

    states: Tensor  # (N, S, C, h, w) float32
    times: Tensor  # (S,) falling from 1
    rows: Tensor  # (N,) the prompt of each path

    def draw(self, count: int, generator: Generator) -> Draw:
        """`count` states, paths and times uniformly at random."""
        paths = torch.randint(len(self.states), (count,), generator=generator)
        steps = torch.randint(len(self.times), (count,), generator=generator)
        return Draw(self.states[paths, steps], self.times[steps], self.rows[paths])

    @staticmethod
    def join(first: Bank, second: Bank) -> Bank:
        """Both banks' paths; their times must be the same."""
        return Bank(
            torch.cat([first.states, second.states]),
            first.times,
            torch.cat([first.rows, second.rows]),
        )


def build_bank(
    backend: FlowBackend,
    cond: Conditioning,
    rows: Tensor,
    *,
    noise: Tensor,
    times: Tensor,
    on_forwards: Callable[[int], None] = lambda count: None,
) -> Bank:
    """Samples one path for each of `rows` of `cond`, from the noise beside it.

    Args:
        rows: (N,) prompts, one for each path.
        noise: (N, C, h, w).
        times: (S + 1,) from 1 to 0.
        on_forwards: told after each pass how many samples it held; may raise to cancel.
    """

    def velocity(x: Tensor, t: Tensor, prompts: Conditioning) -> Tensor:
        v = backend.velocity(x, t, prompts).cpu()
        on_forwards(len(x))
        return v

    parts = []
    for some, start in zip(rows.split(SAMPLED_AT_ONCE), noise.split(SAMPLED_AT_ONCE), strict=True):
        prompts = cond.take(some)
        parts.append(euler_path(lambda x, t, c=prompts: velocity(x, t, c), start, times))
    return Bank(torch.cat(parts), times[:-1].cpu(), rows)
