"""A tiny Flux that ComfyUI takes for an ordinary one, and what the tests feed it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.ldm.flux.model as flux_model
import comfy.model_patcher
import comfy.supported_models
import torch
from eraseanything_pack.erase_engine.interfaces import AttentionCapture, Conditioning
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from random_nets import loss_of, random_patcher

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
NEWER_HOST = {"txt_ids_dims": []} if hasattr(flux_model, "invert_slices") else {}
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
    config = {**sizes, "guidance_embed": guidance_embed, **NEWER_HOST}
    made = kind({"image_model": "flux", **config})
    return random_patcher(made, dtype, compute, inference=inference, seed=seed)


def inputs(
    seed: int = 1, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    """x_t (2, 16, 4, 6), t (2,) and the text of two prompts."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    cond = Conditioning.stacked(draw(2, TEXT_LENGTH, 20), draw(2, 12))
    return draw(2, 16, 4, 6), torch.tensor([0.8, 0.35]), cond


def capture(*blocks: int) -> AttentionCapture:
    return AttentionCapture(torch.tensor(TOKENS), blocks or (0, 1))


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
