"""A tiny Flux that ComfyUI takes for an ordinary one, and what the tests feed it."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any

import comfy.model_patcher
import comfy.supported_models
import torch
from eraseanything_pack.erase_engine.families.flux import FLUX
from eraseanything_pack.erase_engine.interfaces import AttentionCapture, Conditioning
from eraseanything_pack.erase_engine.lora.adapters import LoraSet

CONFIG: dict[str, Any] = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": 12,
    "context_in_dim": 20,
    "hidden_size": 32,
    "mlp_ratio": 4.0,  # the host's LoRA loader knows no other
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [4, 6, 6],
    "theta": 10000,
    "qkv_bias": True,
}
TEXT_LENGTH = 5
TOKENS = [[1, 3], [2, -1]]


def build(
    dtype: torch.dtype = torch.float32,
    *,
    inference: bool = True,
    guidance_embed: bool = True,
    compute: torch.dtype | None = None,
    seed: int = 0,
    sizes: Mapping[str, Any] = CONFIG,
) -> comfy.model_patcher.ModelPatcher:
    """A ModelPatcher on a tiny random Flux; `inference` builds it as a node would."""
    kind = comfy.supported_models.Flux if guidance_embed else comfy.supported_models.FluxSchnell
    config = {**sizes, "guidance_embed": guidance_embed}
    if hasattr(comfy.ldm.flux.model, "invert_slices"):  # newer hosts
        config["txt_ids_dims"] = []
    with torch.inference_mode() if inference else nullcontext():
        model_config = kind({"image_model": "flux", **config})
        model_config.set_inference_dtype(dtype, compute)
        base = model_config.get_model({}, "", device=torch.device("cpu"))
        base.diffusion_model.load_state_dict(_weights(base.diffusion_model, seed))
    return comfy.model_patcher.ModelPatcher(base, torch.device("cpu"), torch.device("cpu"))


def _weights(net: Any, seed: int) -> dict[str, torch.Tensor]:
    """Random weights that leave no layer without effect; norm scales lie around 1."""
    generator = torch.Generator().manual_seed(seed)
    state = {}
    for name, weight in net.state_dict().items():
        draw = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        draw = 1 + 0.2 * draw if "_norm" in name else draw / weight.shape[-1] ** 0.5
        state[name] = draw.to(weight.dtype)
    return state


def inputs(
    seed: int = 1, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    """x_t (2, 16, 4, 6), t (2,) and the text of two prompts."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    cond = Conditioning.stacked(draw(2, TEXT_LENGTH, 20), draw(2, 12))
    return draw(2, 16, 4, 6), torch.tensor([0.8, 0.35]), cond


def trained_lora(
    backend: Any, target: str = "dual_qk", dtype: torch.dtype = torch.float32
) -> LoraSet:
    """Adapters with B away from 0, so that A has a gradient."""
    generator = torch.Generator().manual_seed(2)
    slices = backend.linear_slices(FLUX.target_names(target, 2))
    lora = LoraSet(slices, rank=3, alpha=6.0, generator=generator).to(dtype=dtype)
    for parameter in lora.parameters()[1::2]:
        parameter.data.normal_(std=0.3, generator=generator)
    return lora


def capture(*blocks: int) -> AttentionCapture:
    return AttentionCapture(torch.tensor(TOKENS), blocks or (0, 1))


def loss_of(velocity: torch.Tensor, mass: dict[int, torch.Tensor]) -> torch.Tensor:
    """Velocity and attention mass, weighted unevenly so that no gradient cancels."""
    weights = torch.linspace(0.5, 1.5, velocity.numel(), dtype=velocity.dtype)
    total = (velocity.flatten().pow(2) * weights).mean()
    for block, each in sorted(mass.items()):
        rows = torch.linspace(0.2, 2.0, each.numel(), dtype=each.dtype)
        total = total + (block + 1) * 3 * (each.flatten() * rows).mean()
    return total


def gradients(
    backend: Any, lora: LoraSet, dtype: torch.dtype = torch.float32
) -> dict[str, torch.Tensor]:
    """LoRA gradients of `loss_of`, through the backend."""
    x_t, t, cond = inputs(dtype=dtype)
    request = capture()
    with lora.attach(slices_of(backend, lora)):
        velocity = backend.velocity(x_t, t, cond, capture=request)
        loss = loss_of(velocity, request.mass)
        grads = torch.autograd.grad(loss, lora.parameters())
    return dict(zip(parameter_names(lora), grads, strict=True))


def slices_of(backend: Any, lora: LoraSet) -> Any:
    return backend.linear_slices(adapter_names(lora))


def adapter_names(lora: LoraSet) -> list[str]:
    return [key.removesuffix(".alpha") for key in lora.state_dict() if key.endswith(".alpha")]


def parameter_names(lora: LoraSet) -> list[str]:
    return [key for key in lora.state_dict() if not key.endswith(".alpha")]
