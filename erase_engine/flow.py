"""Rectified flow: straight paths from pictures (t = 0) to noise (t = 1)."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor


def add_noise(x_0: Tensor, noise: Tensor, t: Tensor) -> Tensor:
    """x_t = (1 - t) x_0 + t noise; `t` is (B,), one time for each sample."""
    t = _per_sample(t, x_0)
    return (1 - t) * x_0 + t * noise


def euler_step(x_t: Tensor, v: Tensor, t: Tensor, t_next: Tensor) -> Tensor:
    """x at `t_next` = x_t + (t_next - t) v; exact where v is constant along the path."""
    return x_t + _per_sample(t_next - t, x_t) * v


@torch.no_grad()
def euler_path(
    velocity: Callable[[Tensor, Tensor], Tensor], noise: Tensor, times: Tensor
) -> Tensor:
    """Samples from noise to picture and keeps every state on the way.

    Args:
        velocity: (x_t (B, C, h, w), t (B,)) -> v.
        noise: (B, C, h, w), the state at times[0].
        times: (S + 1,), falling from 1 to 0.

    Returns:
        (B, S + 1, C, h, w): the state at each time; the last is the picture.
    """
    states = [noise]
    for t, t_next in pairwise(times):
        x = states[-1]
        t = t.expand(len(x)).to(x)
        states.append(euler_step(x, velocity(x, t), t, t_next.to(x)))
    return torch.stack(states, dim=1)


def require_finite(what: str, found: Tensor) -> Tensor:
    """`found`, which a model has made; raises ValueError, naming it, where it is not finite."""
    if bool(found.isfinite().all()):
        return found
    raise ValueError(
        f"Got {what} with numbers that are not finite, expected finite ones from this model. Take "
        "off it what may be damaged (a LoRA, a merged weight), or load it, and its VAE, in "
        "bfloat16 or float32: float16 overflows."
    )


def _per_sample(t: Tensor, x: Tensor) -> Tensor:
    return t.to(x).reshape(-1, *[1] * (x.ndim - 1))
