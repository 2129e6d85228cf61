"""What velocity, attention mass and LoRA gradients of the tiny Flux ought to be."""

from __future__ import annotations

from typing import Any

import torch
from random_nets import loss_of
from reference_flux import velocity_and_mass, with_lora
from tiny_flux import CONFIG, TOKENS, inputs, parameter_names


def reference_gradients(
    model: Any, backend: Any, lora: Any, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """What the LoRA's gradients ought to be."""
    state = {key: value.clone().requires_grad_() for key, value in lora.state_dict().items()}
    velocity, mass = reference_forward(model, backend, state, dtype=dtype)
    names = parameter_names(lora)
    grads = torch.autograd.grad(loss_of(velocity, mass), [state[name] for name in names])
    return dict(zip(names, grads, strict=True))


def reference_forward(
    model: Any, backend: Any, lora_state: dict[str, Any], dtype: torch.dtype = torch.float32
) -> Any:
    net = model.model.diffusion_model
    weights = {k: v.detach().clone().to(dtype) for k, v in net.state_dict().items()}
    x_t, t, cond = inputs(dtype=dtype)
    given = {"x_t": x_t, "t": t, "text": cond.text, "pooled": cond.pooled}
    guidance = backend.guidance if net.params.guidance_embed else None
    merged = with_lora(weights, _rows(net, backend, lora_state), lora_state)
    return velocity_and_mass(merged, CONFIG, {**given, "guidance": guidance}, torch.tensor(TOKENS))


def _rows(net: Any, backend: Any, lora_state: dict[str, Any]) -> dict[str, Any]:
    keys = {module: f"{name}.weight" for name, module in net.named_modules()}
    names = [key.removesuffix(".alpha") for key in lora_state if key.endswith(".alpha")]
    slices = backend.linear_slices(names)
    return {n: (keys[part.module], part.start, part.length) for n, part in slices.items()}


def relative_error(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> float:
    """The largest error of a tensor, over that tensor's own size."""
    return max(
        float((found[name] - expected[name]).norm() / expected[name].norm()) for name in expected
    )
