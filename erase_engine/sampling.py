"""From noise to pictures, with a backend and prompts."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from .flow import euler_path
from .interfaces import Conditioning, FlowModel, Prompt


def start_noise(count: int, shape: tuple[int, int, int], *, seed: int) -> Tensor:
    """(count, C, h, w) of a shape (C, h, w), on the CPU: what pictures of one seed begin with."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, *shape, generator=generator)


def guided(backend: FlowModel, x_t: Tensor, t: Tensor, v: Tensor, unconditional: Prompt) -> Tensor:
    """v_0 + cfg (v - v_0): where a picture goes whose prompt's velocity is v, all (B, C, h, w).

    v_0 is that of `unconditional`, the prompt without words; a model with a cfg of 1 is not asked.
    Classifier-free guidance (arXiv 2207.12598).
    """
    if backend.cfg == 1:
        return v
    v_0 = backend.velocity(x_t, t, Conditioning((unconditional,) * len(x_t)))
    return v_0 + backend.cfg * (v.to(v_0) - v_0)


@torch.no_grad()
def sampled(
    backend: FlowModel,
    cond: Conditioning,
    noise: Tensor,
    *,
    steps: int,
    unconditional: Prompt,
    on_step: Callable[[], None] = lambda: None,
) -> Tensor:
    """(B, C, h, w) latents on the CPU, by Euler's method at the model's own times.

    Args:
        cond: B prompts.
        noise: (B, C, h, w).
        unconditional: what guidance leads away from.
        on_step: called after each step; may raise to cancel.
    """

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        v = guided(backend, x, t, backend.velocity(x, t, cond), unconditional).cpu()
        on_step()
        return v

    return euler_path(velocity, noise, backend.timesteps(steps, *noise.shape[-2:]))[:, -1]
