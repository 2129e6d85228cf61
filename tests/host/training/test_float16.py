"""A model that computes in float16 gives the LoRA gradients that it would give in float32."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.training.losses import keep_loss
from eraseanything_pack.erase_engine.training.optimizer import (
    FLOAT16_LOSS_SCALE,
    AdapterOptimizer,
)
from eraseanything_pack.nodes.host.session import training_session
from tiny_flux import build, inputs, slices_of, trained_lora

DIFFERENCE = 0.01  # of the velocities of student and teacher, late in a training
SIDE = 64  # latent pixels: 512 pixels of a picture


def gradients(dtype: torch.dtype, *, scale: float | None = None) -> torch.Tensor:
    """Of L_keep with respect to the LoRA, as the optimizer sees them, all in one."""
    model = build(dtype)
    if dtype == torch.float32:  # the numbers that the other has
        with torch.inference_mode():
            for weight in model.model.diffusion_model.state_dict().values():
                weight.copy_(weight.half())
    _, t, cond = inputs()
    generator = torch.Generator().manual_seed(0)
    x_t, change = (torch.randn(2, 16, SIDE, SIDE, generator=generator) for _ in range(2))
    with training_session(model) as backend:
        lora = trained_lora(backend)
        objective: Any = SimpleNamespace(
            config=EraseConfig(), lora=lora, model=SimpleNamespace(backend=backend)
        )
        optimizer = AdapterOptimizer(objective)
        optimizer.loss_scale = scale or optimizer.loss_scale
        with lora.attach(slices_of(backend, lora)):
            v = backend.velocity(x_t, t, cond)
            optimizer.backward(keep_loss(v, v.detach() - DIFFERENCE * change))
    found = [parameter.grad for parameter in lora.parameters()]
    return torch.cat([each.flatten() for each in found if each is not None])


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def test_float16_gradients_are_those_of_float32() -> None:
    expected = gradients(torch.float32)
    assert error(gradients(torch.float16, scale=1.0), expected) > 0.2  # what it is for
    assert error(gradients(torch.float16), expected) < 0.01


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_no_other_dtype_is_scaled(dtype: torch.dtype) -> None:
    plain = gradients(dtype)
    assert torch.equal(plain, gradients(dtype, scale=1.0))
    assert FLOAT16_LOSS_SCALE == 2.0**14
