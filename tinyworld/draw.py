"""Draws many prompts at once with a loaded model, as a KSampler (euler, simple) would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..erase_engine import sampling
from ..erase_engine.interfaces import Conditioning, FlowModel, Prompt, TextEncoder

CHANNELS, SIDE = 16, 16  # of a latent
STEPS = 20
DRAWN_AT_ONCE = 50


@torch.no_grad()
def draw_pictures(
    backend: FlowModel,
    encoder: TextEncoder,
    vae: Any,
    prompts: Sequence[str],
    *,
    seed: int,
    steps: int = STEPS,
) -> Tensor:
    """(N, 3, 128, 128) in 0..1, one for each prompt; noise from the seed, by the prompt's place."""
    noise, unconditional = start_noise(len(prompts), seed), encoder.encode([""]).prompts[0]
    pictures = []
    for start in range(0, len(prompts), DRAWN_AT_ONCE):
        some = slice(start, start + DRAWN_AT_ONCE)
        cond = encoder.encode(prompts[some])
        pictures.append(
            draw_conditioned(backend, vae, cond, noise[some], unconditional, steps=steps)
        )
    return torch.cat(pictures)


@torch.no_grad()
def draw_conditioned(
    backend: FlowModel,
    vae: Any,
    cond: Conditioning,
    noise: Tensor,
    unconditional: Prompt,
    *,
    steps: int = STEPS,
) -> Tensor:
    """(N, 3, 128, 128) in 0..1 from (N, 16, 16, 16) noise."""
    latents = sampling.sampled(backend, cond, noise, steps=steps, unconditional=unconditional)
    autoencoder = vae.first_stage_model
    decoded = autoencoder.decode(autoencoder.latents.outside(latents))
    return ((decoded + 1) / 2).clamp(0, 1)


def start_noise(count: int, seed: int) -> Tensor:
    """(count, 16, 16, 16)"""
    return sampling.start_noise(count, (CHANNELS, SIDE, SIDE), seed=seed)
