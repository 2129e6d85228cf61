"""Nets of the host's own classes with random weights, and adapters on them."""

from __future__ import annotations

import functools
from contextlib import nullcontext
from typing import Any

import comfy.model_patcher
import torch
from eraseanything_pack.erase_engine.lora.adapters import LoraSet


def random_patcher(
    config: Any,
    dtype: torch.dtype,
    compute: torch.dtype | None = None,
    *,
    inference: bool,
    seed: int = 0,
) -> comfy.model_patcher.ModelPatcher:
    """A ModelPatcher around what the host builds of its config; `inference`: as a node would."""
    with torch.inference_mode() if inference else nullcontext():
        config.set_inference_dtype(dtype, compute)
        base = config.get_model({}, "", device=torch.device("cpu"))
        base.diffusion_model.load_state_dict(random_weights(base.diffusion_model, seed))
    return comfy.model_patcher.ModelPatcher(base, torch.device("cpu"), torch.device("cpu"))


def random_weights(net: Any, seed: int) -> dict[str, torch.Tensor]:
    """Weights that leave no layer without effect; scales of norms lie around 1."""
    weights, state = net.state_dict(), {}
    drawn = draws(tuple(weight.shape for weight in weights.values()), seed)
    for (name, weight), draw in zip(weights.items(), drawn, strict=True):
        scale = weight.ndim == 1 and ("norm" in name or ".ln_" in name) and "bias" not in name
        state[name] = (1 + 0.2 * draw if scale else draw / weight.shape[-1] ** 0.5).to(weight.dtype)
    return state


@functools.lru_cache(maxsize=4)
def draws(shapes: tuple[torch.Size, ...], seed: int) -> tuple[torch.Tensor, ...]:
    """Normal numbers, remembered: tests build one net many times, and most of that is drawing."""
    generator = torch.Generator().manual_seed(seed)
    return tuple(torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes)


def trained_lora(
    backend: Any, target: str = "dual_qk", dtype: torch.dtype = torch.float32
) -> LoraSet:
    """Adapters with B away from 0, so that A has a gradient."""
    generator = torch.Generator().manual_seed(2)
    slices = backend.linear_slices(backend.target_names(target))
    lora = LoraSet(slices, rank=3, alpha=6.0, generator=generator).to(dtype=dtype)
    for parameter in lora.parameters()[1::2]:
        parameter.data.normal_(std=0.3, generator=generator)
    return lora


def loss_of(velocity: torch.Tensor, mass: dict[int, torch.Tensor]) -> torch.Tensor:
    """Velocity and attention mass, weighted unevenly so that no gradient cancels."""
    weights = torch.linspace(0.5, 1.5, velocity.numel(), dtype=velocity.dtype)
    total = (velocity.flatten().pow(2) * weights).mean()
    for block, each in sorted(mass.items()):
        rows = torch.linspace(0.2, 2.0, each.numel(), dtype=each.dtype)
        total = total + (block + 1) * 3 * (each.flatten() * rows).mean()
    return total
