"""Latents as rows of patches, 2 x 2 places each: what most nets of diffusers take and give."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from .family import Pass

PATCH = 2


def packed(x_t: Tensor) -> Tensor:
    """(B, C, h, w) as (B, L, 4 C), row by row."""
    return rearrange(x_t, "b c (h p) (w q) -> b (h w) (c p q)", p=PATCH, q=PATCH)


def unpacked(out: Tensor, given: Pass) -> Tensor:
    """(B, L, 4 C) as (B, C, h, w), of the size that the net was given."""
    height = given.x_t.shape[-2] // PATCH
    return rearrange(out, "b (h w) (c p q) -> b c (h p) (w q)", h=height, p=PATCH, q=PATCH)


def grid(x_t: Tensor) -> tuple[int, int]:
    """Rows and columns of patches in latents (B, C, h, w)."""
    return x_t.shape[-2] // PATCH, x_t.shape[-1] // PATCH


def places(axes: tuple[int, ...], device: torch.device) -> Tensor:
    """Where each token of a grid with so many places along each axis stands: (L, axes)."""
    return torch.cartesian_prod(*map(torch.arange, axes)).float().to(device)
