"""The teacher is the same weights with the adapters switched off, bit for bit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from eraseanything_pack.nodes.host.session import training_session
from random_nets import trained_lora
from tiny_flux import build, capture, inputs, slices_of


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_disabled_equals_base_bit_for_bit(dtype: torch.dtype) -> None:
    with training_session(build(dtype)) as backend, torch.no_grad():
        base = _run(backend)
        lora = trained_lora(backend, "all_attention")
        with lora.attach(slices_of(backend, lora)):
            student = _run(backend)
            with lora.disabled():
                teacher = _run(backend)
    assert all(torch.equal(a, b) for a, b in zip(base, teacher, strict=True))
    assert not torch.equal(base[0], student[0])


def test_base_in_a_session_equals_the_sampled_model() -> None:
    """What is trained is what will be sampled: denoised = x - sigma v, as the host computes it."""
    model = build()
    x_t, t, cond = inputs()
    guidance = torch.full((2,), 3.5)
    with training_session(model) as backend, torch.no_grad():
        velocity = backend.velocity(x_t, t, cond)
    with torch.no_grad():
        given = {"c_crossattn": cond.text, "y": cond.pooled, "guidance": guidance}
        denoised = model.model.apply_model(x_t, t, **given)
    expected = x_t - t[:, None, None, None] * velocity
    torch.testing.assert_close(denoised, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("guidance_embed", [True, False], ids=["dev", "schnell"])
def test_timesteps_are_the_models_own(guidance_embed: bool) -> None:
    model = build(guidance_embed=guidance_embed)
    with training_session(model) as backend:
        times = backend.timesteps(4, 64, 64)
    assert times.shape == (5,) and times[0] == 1 and times[-1] == 0
    even = torch.linspace(1, 0, 5)
    shift = 1.15
    shifted = torch.tensor(shift).exp() / (torch.tensor(shift).exp() + (1 / even - 1))
    expected = shifted if guidance_embed else even
    torch.testing.assert_close(times, expected, rtol=1e-3, atol=1e-3)


def test_timesteps_follow_a_sampling_node() -> None:
    from comfy_extras.nodes_model_advanced import ModelSamplingFlux

    model = build()
    with training_session(model) as backend:
        usual = backend.timesteps(4, 64, 64)
    (patched,) = ModelSamplingFlux().patch(model, 3.0, 0.5, 1024, 1024)
    with training_session(patched) as backend:
        assert (backend.timesteps(4, 64, 64)[1:4] > usual[1:4]).all()


def test_unknown_layers_and_blocks_are_named() -> None:
    with training_session(build()) as backend:
        for name in ("transformer_blocks.2.attn.add_q_proj", "blocks.0.q", "vector_in"):
            with pytest.raises(ValueError, match=f"Got layer '{name}'"):
                backend.linear_slices([name])
        with pytest.raises(
            ValueError, match=r"Got capture blocks \(0, 4\), expected some of 0 to 3"
        ):
            backend.velocity(*inputs(), capture=capture(0, 4))


def _run(backend: Any) -> list[torch.Tensor]:
    request = capture()
    return [backend.velocity(*inputs(), capture=request), *request.mass.values()]
