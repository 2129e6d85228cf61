"""Pictures of what is to be kept, and noisy ones for L_lora."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ...config import EraseConfig
from ...flow import add_noise


@dataclass(frozen=True)
class NoisyPictures:
    """Pictures with noise on them, for one step."""

    x_0: Tensor  # (B, C, h, w)
    noise: Tensor  # (B, C, h, w)
    t: Tensor  # (B,)
    rows: Tensor  # (B,) the keep prompt that each shows

    @property
    def x_t(self) -> Tensor:
        return add_noise(self.x_0, self.noise, self.t)


@dataclass(frozen=True)
class Pictures:
    """Latents of N pictures in model space, on the CPU in float32."""

    latents: Tensor  # (N, C, h, w)
    rows: Tensor  # (N,) the keep prompt that each shows

    def draw(self, count: int, generator: Generator) -> NoisyPictures:
        """`count` of them, each uniformly at random, at times uniform in [0, 1]."""
        n = torch.randint(len(self.latents), (count,), generator=generator)
        t = torch.rand(count, generator=generator)
        x_0 = self.latents[n]
        noise = torch.randn(x_0.shape, generator=generator)
        return NoisyPictures(x_0, noise, t, self.rows[n])


def check_pictures_count(config: EraseConfig) -> None:
    """Raises ValueError where a person gives pictures that no loss would look at."""
    if config.weights.reconstruction == 0:
        raise ValueError(
            f"Got pictures to keep with the recipe {config.recipe}, whose weight of "
            "reconstruction is 0, expected a weight above 0: the pictures would not be looked at. "
            "Choose the recipe paper, or leave the pictures out."
        )
