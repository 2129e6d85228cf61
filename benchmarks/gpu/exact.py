"""LoRA gradients in every kind of numbers, and whether the model comes back as it was."""

from __future__ import annotations

import hashlib
from typing import Any

import comfy.model_management
import torch
from eraseanything_pack.erase_engine.interfaces import AttentionCapture
from eraseanything_pack.erase_engine.training.solvers.optimizer import FLOAT16_LOSS_SCALE
from eraseanything_pack.nodes.host.session import training_session
from torch import Generator, Tensor

from ..full_width import TOKENS, build, encoded_plan
from .setting import TARGETS, Rows, Setting

GUIDANCE = 4.0  # hosts cast it, and multiply it by 1000: 3.5 becomes 3.504 in bfloat16


def exact(setting: Setting) -> Rows:
    expected = gradients(build(1, 1, "float32"), 1.0)
    for dtype in ("float32", "bfloat16", "float16", "float8_e4m3fn"):
        model = setting.model(1, 1, dtype)
        before = digest(model)
        # float8 weights are other numbers: their own in float32 are what is right for them.
        right = gradients(in_float32(model), 1.0) if dtype == "float8_e4m3fn" else expected
        grads = gradients(model, FLOAT16_LOSS_SCALE if dtype == "float16" else 1.0)
        comfy.model_management.unload_all_models()
        off = float((grads - right).norm() / right.norm())
        yield {"dtype": dtype, "gradient_off": off, "given_back": digest(model) == before}


def gradients(model: Any, scale: float) -> Tensor:
    """Of velocity and attention mass to adapters whose B is away from 0: all in a row, float32."""
    generator = Generator().manual_seed(2)
    x_t = torch.randn(1, 16, 8, 8, generator=Generator().manual_seed(3))
    capture = AttentionCapture(torch.tensor(TOKENS), (0,))
    with torch.inference_mode(), training_session(model, guidance=GUIDANCE) as backend:
        slices = backend.linear_slices(backend.target_names(TARGETS))
        lora = backend.adapters(slices, rank=8, generator=generator)
        for parameter in lora.parameters()[1::2]:
            parameter.data.copy_(0.05 * torch.randn(parameter.shape, generator=generator))
        with lora.attach(slices):
            v = backend.velocity(x_t, torch.tensor([0.6]), encoded_plan(8).concept, capture=capture)
            loss = v.square().mean() + sum(mass.mean() for mass in capture.mass.values())
            grads = torch.autograd.grad(scale * loss, lora.parameters())
    return torch.cat([grad.float().cpu().flatten() for grad in grads]) / scale


def in_float32(model: Any) -> Any:
    """A Flux on the CPU with the same numbers in a larger type."""
    twin = build(1, 1, "float32")
    state = model.model.diffusion_model.state_dict()
    with torch.inference_mode():
        for name, weight in twin.model.diffusion_model.state_dict().items():
            weight.copy_(state[name].float())
    return twin


def digest(model: Any) -> str:
    """A hash of every weight, bit by bit."""
    hashed = hashlib.sha256()
    for weight in model.model.diffusion_model.state_dict().values():
        hashed.update(weight.cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return hashed.hexdigest()
