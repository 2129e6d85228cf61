"""Attention maps to look at: where in the picture a model looks for each word of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from .backends.base import Capture, Conditioning, FlowBackend
from .flow import euler_path

PATCH = 2  # an image token covers 2 x 2 latent pixels


@dataclass(frozen=True)
class AttentionMaps:
    """One map for each word, and the picture that was sampled meanwhile.

    `maps` (W, h, w): the attention mass that a place of the picture gives to the word's tokens,
    averaged over double blocks, heads and sampling steps; between 0 and 1. `latent` (1, C, h, w).
    """

    maps: Tensor
    latent: Tensor

    @property
    def masses(self) -> list[float]:
        """Each word's mass, averaged over the picture."""
        return [each.mean().item() for each in self.maps]


@torch.no_grad()
def attention_maps(
    backend: FlowBackend,
    cond: Conditioning,
    words: Sequence[Sequence[int]],
    *,
    noise: Tensor,
    times: Tensor,
    on_step: Callable[[], None] = lambda: None,
) -> AttentionMaps:
    """Samples one picture and watches the attention on the way.

    Args:
        cond: one prompt.
        words: the text tokens of each word.
        noise: (1, C, h, w).
        times: (S + 1,) from 1 to 0.
        on_step: called after each step; may raise to cancel.
    """
    tokens = torch.tensor([[token for word in words for token in word]])
    blocks = tuple(range(backend.double_blocks))
    total = torch.zeros(1, noise.shape[-2] // PATCH * (noise.shape[-1] // PATCH), tokens.shape[1])

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        capture = Capture(tokens, blocks)
        v = backend.velocity(x, t, cond, capture=capture).cpu()
        for mass in capture.mass.values():  # (1, H, L, J)
            total.add_(mass.mean(dim=1).cpu())
        on_step()
        return v

    latent = euler_path(velocity, noise, times)[:, -1]
    mean = total[0] / (len(blocks) * (len(times) - 1))  # (L, J)
    maps = [part.sum(dim=-1) for part in mean.split([len(word) for word in words], dim=-1)]
    grid = rearrange(torch.stack(maps), "w (y x) -> w y x", y=noise.shape[-2] // PATCH)
    return AttentionMaps(grid, latent)
