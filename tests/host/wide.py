"""A Flux of FLUX.1-dev's width with few blocks: its inputs, and gradients of a LoRA for it."""

from __future__ import annotations

import functools
from typing import Any

import torch
from eraseanything_pack.benchmarks.full_width import TOKENS, build, encoded_plan
from eraseanything_pack.erase_engine.families.flux import FLUX
from eraseanything_pack.erase_engine.interfaces import AttentionCapture
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from eraseanything_pack.nodes.host.session import training_session
from random_nets import loss_of
from tiny_flux import parameter_names

TEXT_LENGTH, PIXELS = 8, 64  # 16 image tokens
Gradients = dict[str, torch.Tensor]


@functools.cache
def built(dtype: str = "bfloat16") -> Any:
    """Built once, since filling it takes seconds: who takes it gives it back as it was."""
    return build(dtype=dtype)


def state_and_text(**text: int) -> tuple[torch.Tensor, torch.Tensor, Any]:
    """`text`: sizes of its features, where they are not FLUX.1-dev's."""
    x_t = torch.randn(1, 16, 8, 8, generator=torch.Generator().manual_seed(3))
    return x_t, torch.tensor([0.6]), encoded_plan(TEXT_LENGTH, **text).concept


def gradients(model: Any, **text: int) -> Gradients:
    """Of velocity and attention mass, with respect to adapters whose B is away from 0."""
    request, generator = (
        AttentionCapture(torch.tensor(TOKENS), (0,)),
        torch.Generator().manual_seed(2),
    )
    with torch.inference_mode(), training_session(model) as backend:
        slices = backend.linear_slices(FLUX.target_names("text_pooled", 1))
        lora = LoraSet(slices, rank=8, generator=generator)
        for parameter in lora.parameters()[1::2]:
            parameter.data.normal_(std=0.3, generator=generator)
        with lora.attach(slices):
            velocity = backend.velocity(*state_and_text(**text), capture=request)
            found = torch.autograd.grad(loss_of(velocity, request.mass), lora.parameters())
    return dict(zip(parameter_names(lora), found, strict=True))
