"""Pictures as latents, by the autoencoder in a diffusers folder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def encode(vae: Any, pictures: Iterable[Tensor]) -> Tensor:
    """(N, C, h, w) float32 latents on the CPU, as the model reads them, of (3, H, W) in 0..1.

        latent = (mean of the autoencoder - shift_factor) scaling_factor

    One picture at a time.
    """
    config = vae.config
    latents = []
    for picture in pictures:
        pixels = (picture[None] * 2 - 1).to(vae.device, vae.dtype)
        mean = vae.encode(pixels).latent_dist.mode()
        latents.append((mean.float() - (config.shift_factor or 0.0)) * config.scaling_factor)
    return torch.cat(latents).cpu()
