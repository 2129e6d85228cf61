"""Gradients through the host's quantized layers are those of the weights the forward pass uses."""

from __future__ import annotations

import json
from typing import Any

import comfy.ops
import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.guards import frozen_linear

WIDE, NARROW = 32, 16


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def float8() -> tuple[torch.Tensor, torch.Tensor]:
    """A float8 weight (NARROW, WIDE) and its scale."""
    scale = torch.tensor(0.02)
    return (draw(NARROW, WIDE) / scale / 6).to(torch.float8_e4m3fn), scale


def scaled_fp8() -> torch.nn.Module:
    """Float8 with `scale_weight`, which forward puts on the input when that is small."""
    operations = comfy.ops.scaled_fp8_ops(override_dtype=torch.float8_e4m3fn)
    layer = operations.Linear(WIDE, NARROW)
    weight, scale = float8()
    layer.load_state_dict(
        {"weight": weight, "bias": draw(NARROW).to(weight), "scale_weight": scale}
    )
    return layer


def mixed_precision(**extra: Any) -> torch.nn.Module:
    """The quantized tensors of newer checkpoints."""
    settings = {"format": "float8_e4m3fn"}
    make: Any = comfy.ops.mixed_precision_ops
    operations = make({"layer": settings}, torch.float32, full_precision_mm=True)
    layer = operations.Linear(WIDE, NARROW)
    weight, scale = float8()
    state = {"layer.weight": weight, "layer.bias": draw(NARROW), "layer.weight_scale": scale}
    if hasattr(comfy.ops, "_load_quantized_module"):  # newer hosts keep the settings in the file
        text = json.dumps(settings).encode()
        state["layer.comfy_quant"] = torch.tensor(list(text), dtype=torch.uint8)
    holder = torch.nn.ModuleDict({"layer": layer})
    holder.load_state_dict({**state, **extra})
    return layer


def smoothed() -> torch.nn.Module:
    """With a scale for each input channel, as ModelOpt writes it."""
    layer = mixed_precision()
    layer.pre_quant_scale = torch.nn.Parameter(draw(WIDE, seed=3).abs())
    return layer


# Which of them there are is the host's affair: 0.33.0 turns the first into the second.
LAYERS = [mixed_precision]
LAYERS += [scaled_fp8] if hasattr(comfy.ops, "scaled_fp8_ops") else []
LAYERS += [smoothed] if hasattr(comfy.ops, "_load_quantized_module") else []


@pytest.mark.parametrize("samples", [2, 200], ids=["small_input", "large_input"])
@pytest.mark.parametrize("make", LAYERS)
@torch.inference_mode(False)
def test_gradient_is_that_of_the_forward_pass(make: Any, samples: int) -> None:
    layer = make()
    with torch.no_grad():
        zero = layer(torch.zeros(1, WIDE))
        matrix = (layer(torch.eye(WIDE)) - zero).T  # (NARROW, WIDE), as forward applies it
        assert matrix.abs().max() > 0.5
    x = draw(1, samples, WIDE, seed=1).requires_grad_()
    grad = draw(1, samples, NARROW, seed=2)
    forward = frozen_linear(layer)
    assert forward is not None
    out = forward(x)
    torch.testing.assert_close(out, x @ matrix.T + zero, rtol=1e-4, atol=1e-4)
    (found,) = torch.autograd.grad(out, x, grad)
    torch.testing.assert_close(found, grad @ matrix, rtol=1e-4, atol=1e-4)
