"""From noise to pictures, with a backend and prompts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .flow import euler_path
from .interfaces import Conditioning, FlowModel


def start_noise(count: int, channels: int, size: tuple[int, int], *, seed: int) -> Tensor:
    """(count, channels, h, w) on the CPU: what pictures of one seed begin with."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, channels, *size, generator=generator)


@torch.no_grad()
def sampled(
    backend: FlowModel,
    cond: Conditioning,
    noise: Tensor,
    *,
    steps: int,
    on_step: Callable[[], None] = lambda: None,
) -> Tensor:
    """(B, C, h, w) latents on the CPU, by Euler's method at the model's own times.

    Args:
        cond: B prompts.
        noise: (B, C, h, w).
        on_step: called after each step; may raise to cancel.
    """

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        v = backend.velocity(x, t, cond).cpu()
        on_step()
        return v

    return euler_path(velocity, noise, backend.timesteps(steps, *noise.shape[-2:]))[:, -1]
