"""Gradients through ComfyUI's Flux equal those of a Flux written out of place."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from eraseanything_pack.erase_engine.interfaces import Conditioning
from eraseanything_pack.nodes.host.session import training_session
from expected import reference_forward, reference_gradients, relative_error
from random_nets import loss_of, trained_lora
from reference_flux import velocity_and_mass
from tiny_flux import (
    CONFIG,
    TOKENS,
    adapter_names,
    capture,
    gradients,
    inputs,
    parameter_names,
    slices_of,
)


@pytest.mark.parametrize("guidance_embed", [True, False], ids=["dev", "schnell"])
@pytest.mark.parametrize("inference", [True, False], ids=["inference_weights", "plain_weights"])
@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointed", "kept"])
@pytest.mark.parametrize("target", ["text_pooled", "all_attention"])
def test_lora_gradient_equals_reference(
    flux: Any, target: str, checkpointing: bool, inference: bool, guidance_embed: bool
) -> None:
    model = flux(inference=inference, guidance_embed=guidance_embed)
    with torch.inference_mode(), training_session(model, checkpointing=checkpointing) as backend:
        lora = trained_lora(backend, target)
        found = gradients(backend, lora)
        expected = reference_gradients(model, backend, lora)
    assert relative_error(found, expected) < 1e-5


def test_forward_equals_reference(flux: Any) -> None:
    model = flux()
    with training_session(model) as backend:
        lora, request = trained_lora(backend), capture()
        with lora.attach(slices_of(backend, lora)):
            velocity = backend.velocity(*inputs(), capture=request)
        expected, mass = reference_forward(model, backend, lora.state_dict())
    torch.testing.assert_close(velocity, expected, rtol=1e-5, atol=1e-5)
    for block in mass:
        torch.testing.assert_close(request.mass[block], mass[block], rtol=1e-5, atol=1e-6)


def test_gradient_equals_finite_differences(flux: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _exact_rope(monkeypatch)
    with training_session(flux(torch.float64)) as backend:
        lora = trained_lora(backend, "text_pooled", dtype=torch.float64)
        grads = gradients(backend, lora, dtype=torch.float64)
        generator = torch.Generator().manual_seed(3)
        for name, parameter in zip(parameter_names(lora), lora.parameters(), strict=True):
            way = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
            slope = _slope(backend, lora, parameter, 1e-5 * way) / 1e-5
            assert slope == pytest.approx(float((grads[name] * way).sum()), rel=1e-5, abs=1e-9)


def _exact_rope(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host rotates in float32; finite differences need float64."""
    import comfy.ldm.flux.layers as layers

    rope = layers.rope
    monkeypatch.setattr(layers, "rope", lambda *args: rope(*args).double())


def _slope(backend: Any, lora: Any, parameter: torch.Tensor, step: torch.Tensor) -> float:
    """(loss(p + step) - loss(p - step)) / 2."""
    values = []
    for sign in (1, -1):
        parameter.data += sign * step
        values.append(float(_loss(backend, lora)))
        parameter.data -= sign * step
    return (values[0] - values[1]) / 2


@torch.no_grad()
def _loss(backend: Any, lora: Any) -> torch.Tensor:
    request = capture()
    with lora.attach(slices_of(backend, lora)):
        velocity = backend.velocity(*inputs(dtype=torch.float64), capture=request)
    return loss_of(velocity, request.mass)


@pytest.mark.parametrize("checkpointing", [True, False])
def test_text_has_a_gradient_too(flux: Any, checkpointing: bool) -> None:
    model = flux()
    x_t, t, cond = inputs()
    text = cond.text.requires_grad_()
    cond = Conditioning.stacked(text, cond.pooled)
    with training_session(model, checkpointing=checkpointing) as backend:
        (found,) = torch.autograd.grad(backend.velocity(x_t, t, cond).pow(2).sum(), text)
        weights = {k: v.clone() for k, v in model.model.diffusion_model.state_dict().items()}
        given = {"x_t": x_t, "t": t, "text": text, "pooled": cond.pooled}
        velocity, _ = velocity_and_mass(
            weights, CONFIG, {**given, "guidance": 3.5}, torch.tensor(TOKENS)
        )
        (expected,) = torch.autograd.grad(velocity.pow(2).sum(), text)
    assert relative_error({"text": found}, {"text": expected}) < 1e-5


def test_base_weights_get_no_gradient(flux: Any) -> None:
    model = flux(inference=False)
    with training_session(model) as backend:
        lora = trained_lora(backend)
        with lora.attach(slices_of(backend, lora)):
            backend.velocity(*inputs()).pow(2).sum().backward()
    assert all(weight.grad is None for weight in model.model.parameters())
    assert all(parameter.grad is not None for parameter in lora.parameters())
    assert len(adapter_names(lora)) == 8
