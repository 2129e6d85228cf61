"""Draws many prompts at once with a loaded model, as a KSampler (euler, simple) would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..erase_engine.backends.base import FlowBackend, TextEncoder
from ..erase_engine.flow import euler_path
from .models import LATENT_SCALE, LATENT_SHIFT

SIDE = 16  # latent pixels
DRAWN_AT_ONCE = 50


@torch.no_grad()
def draw_pictures(
    backend: FlowBackend,
    encoder: TextEncoder,
    vae: Any,
    prompts: Sequence[str],
    *,
    seed: int,
    steps: int = 20,
) -> Tensor:
    """(N, 3, 128, 128) in 0..1, one for each prompt; noise from the seed, by the prompt's place."""
    times = backend.timesteps(steps, SIDE, SIDE)
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(len(prompts), backend.latent_channels, SIDE, SIDE, generator=generator)
    pictures = []
    for start in range(0, len(prompts), DRAWN_AT_ONCE):
        some = slice(start, start + DRAWN_AT_ONCE)
        cond = encoder.encode(prompts[some])
        states = euler_path(lambda x, t, c=cond: backend.velocity(x, t, c), noise[some], times)
        decoded = vae.first_stage_model.decode(states[:, -1] / LATENT_SCALE + LATENT_SHIFT)
        pictures.append(((decoded + 1) / 2).clamp(0, 1))
    return torch.cat(pictures)
