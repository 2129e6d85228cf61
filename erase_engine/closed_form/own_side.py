"""Changes of a concept's tokens, within limits: their length, and where another word begins."""

from __future__ import annotations

import torch
from torch import Tensor

TINY = 1e-12
PROJECTIONS = 8  # one after the other, each out of the cell of one other token


def length_of(x: Tensor) -> Tensor:
    """(..., 1) the norm of each vector (..., n), never 0."""
    return x.norm(dim=-1, keepdim=True).clamp_min(TINY)


def within(change: Tensor, limit: Tensor | float) -> Tensor:
    """The change (..., n), shortened where it is longer than `limit`."""
    return change * (limit / length_of(change)).clamp_max(1)


@torch.no_grad()
def on_own_side(change: Tensor, tokens: Tensor, held: Tensor) -> Tensor:
    """The changes, moved back to where a token is nearer to itself than to what is to stay.

        u <- u - max(0, u d / |d|^2 - 1/2) d,   d = k - x,   k the held row nearest to x + u

    Past half of the way to another word an attack is that word, and no longer the concept.

    Args:
        change: (N, n), float32.
        tokens: (N, n) what is changed.
        held: (M, n) what is to stay.
    """
    for _ in range(PROJECTIONS):
        way = held[torch.cdist(tokens + change, held).argmin(dim=1)] - tokens
        share = (change * way).sum(1, keepdim=True) / length_of(way).square()
        change = change - (share - 0.5).clamp_min(0) * way
    return change
