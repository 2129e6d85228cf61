"""One Flux in ComfyUI's and in diffusers' layout: one velocity, one gradient, one LoRA."""

from __future__ import annotations

import pytest
import torch
from eraseanything_pack.nodes.host import training_session
from expected import relative_error
from tiny_diffusers import backend_of
from tiny_flux import build, capture, gradients, inputs, slices_of, trained_lora


@pytest.mark.parametrize("guidance_embed", [True, False], ids=["dev", "schnell"])
def test_velocity_and_attention_mass_are_equal(guidance_embed: bool) -> None:
    model = build(guidance_embed=guidance_embed)
    ours, theirs = capture(), capture()
    with training_session(model) as comfy, backend_of(model).session() as backend, torch.no_grad():
        lora = trained_lora(comfy, "all_attention")
        with lora.attach(slices_of(comfy, lora)):
            expected = comfy.velocity(*inputs(), capture=theirs)
        with lora.attach(slices_of(backend, lora)):
            found = backend.velocity(*inputs(), capture=ours)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    assert list(ours.mass) == list(theirs.mass)
    for block, mass in theirs.mass.items():
        torch.testing.assert_close(ours.mass[block], mass, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointed", "kept"])
def test_lora_gradients_are_equal(checkpointing: bool) -> None:
    model = build()
    with training_session(model) as comfy:
        lora = trained_lora(comfy, "all_attention")
        expected = gradients(comfy, lora)
    with backend_of(model, checkpointing=checkpointing).session() as backend:
        assert relative_error(gradients(backend, lora), expected) < 1e-5
