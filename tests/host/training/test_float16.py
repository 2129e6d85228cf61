"""A model that computes in float16 gives the LoRA gradients that it would give in float32."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from eraseanything_pack.erase_engine.closed_form.own_side import TINY
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.interfaces import Conditioning
from eraseanything_pack.erase_engine.training.losses import keep_loss
from eraseanything_pack.erase_engine.training.solvers.optimizer import AdapterOptimizer
from eraseanything_pack.nodes.host.session import training_session
from random_nets import trained_lora
from tiny_flux import build, inputs, slices_of

DIFFERENCE = 0.01  # of the velocities of student and teacher, late in a training
SIDE = 64  # latent pixels: 512 pixels of a picture


def gradients(dtype: torch.dtype, *, scale: float | None = None) -> list[torch.Tensor]:
    """Of L_keep: to the LoRA, as the optimizer takes them; to the text, of length 1."""
    model = build(dtype)
    if dtype == torch.float32:  # the numbers that the other has
        with torch.inference_mode():
            for weight in model.model.diffusion_model.state_dict().values():
                weight.copy_(weight.half())
    _, t, given = inputs()
    text = given.text.clone().requires_grad_()
    cond = Conditioning.stacked(text, given.pooled)
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
            optimizer.backward(keep_loss(v, v.detach() - DIFFERENCE * change).mean())
    added = [parameter.grad for parameter in lora.parameters()]
    found = torch.cat([each.flatten() for each in added if each is not None])
    found /= optimizer.loss_scale
    assert optimizer.update(rate=1.0).item() == pytest.approx(found.norm().item(), rel=1e-5)
    assert all(parameter.grad is None for parameter in lora.parameters())
    assert text.grad is not None
    towards = text.grad / text.grad.norm(dim=-1, keepdim=True).clamp_min(TINY)
    return [found, towards]


def error(found: torch.Tensor, expected: torch.Tensor) -> float:
    return ((found - expected).norm() / expected.norm()).item()


def test_float16_gradients_are_those_of_float32() -> None:
    """The LoRA's, and the direction that the adversary goes, which it makes of any length."""
    expected, found, unscaled = (
        gradients(dtype, scale=scale)
        for dtype, scale in ((torch.float32, None), (torch.float16, None), (torch.float16, 1.0))
    )
    for of in range(2):
        assert error(found[of], expected[of]) < 0.01
        assert error(unscaled[of], expected[of]) > 0.2  # what it is for


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_no_other_dtype_is_scaled(dtype: torch.dtype) -> None:
    for one, unscaled in zip(gradients(dtype), gradients(dtype, scale=1.0), strict=True):
        assert torch.equal(one, unscaled)
