"""One Flux in ComfyUI's and in diffusers' layout: one velocity, one gradient, one LoRA."""

from __future__ import annotations

from contextlib import nullcontext

import pytest
import torch
from diffusers import FluxTransformer2DModel
from eraseanything_pack.erase_engine.backends.diffusers.model import DiffusersFlowModel
from eraseanything_pack.nodes.host.session import training_session
from expected import relative_error
from random_nets import trained_lora
from tiny_diffusers import backend_of, convert, scheduler, sizes_of, snapshot_of
from tiny_flux import build, capture, gradients, inputs, slices_of


@pytest.mark.parametrize("guidance_embed", [True, False], ids=["dev", "schnell"])
def test_velocity_and_what_is_captured_are_equal(guidance_embed: bool) -> None:
    model = build(guidance_embed=guidance_embed)
    ours, theirs = capture(0, 1, 2, 3), capture(0, 1, 2, 3)
    ours.outputs = theirs.outputs = True
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
        likeness = theirs.likeness[block]
        torch.testing.assert_close(ours.likeness[block], likeness, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointed", "kept"])
def test_lora_gradients_are_equal(checkpointing: bool) -> None:
    model = build()
    with training_session(model) as comfy:
        lora = trained_lora(comfy, "all_attention")
        expected = gradients(comfy, lora)
    with backend_of(model, checkpointing=checkpointing).session() as backend:
        assert relative_error(gradients(backend, lora), expected) < 1e-5


@pytest.mark.parametrize("guidance_embed", [True, False], ids=["dev", "schnell"])
@pytest.mark.parametrize("steps", [1, 4, 7, 12, 28])
def test_times_are_comfyuis(steps: int, guidance_embed: bool) -> None:
    model = build(guidance_embed=guidance_embed)
    backend = backend_of(model)
    with training_session(model) as comfy:
        expected = comfy.timesteps(steps, 64, 64)
    for side in (8, 64):
        torch.testing.assert_close(
            backend.timesteps(steps, side, side), expected, rtol=0, atol=1e-6
        )


def test_times_leave_the_schedulers_own_alone() -> None:
    kept = scheduler()
    before = kept.timesteps.clone()
    DiffusersFlowModel(convert(build()), kept).timesteps(4, 64, 64)
    assert torch.equal(kept.timesteps, before)


ENDINGS = [None, ValueError, KeyboardInterrupt]


@pytest.mark.parametrize("trouble", ENDINGS)
@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointed", "kept"])
def test_model_is_as_it_was(checkpointing: bool, trouble: type[BaseException] | None) -> None:
    backend = backend_of(build(), checkpointing=checkpointing)
    backend.net.proj_out.requires_grad_(False)
    before = snapshot_of(backend.net)
    with torch.inference_mode(), pytest.raises(trouble) if trouble else nullcontext():
        _train(backend, trouble)
    assert before == snapshot_of(backend.net)


def _train(backend: DiffusersFlowModel, trouble: type[BaseException] | None) -> None:
    with backend.session():
        lora = trained_lora(backend)
        gradients(backend, lora)
        assert not any(weight.requires_grad for weight in backend.net.parameters())
        if trouble:
            raise trouble


def test_checkpointing_is_the_sessions_choice() -> None:
    """Blocks run once more in backward where it is on, whatever the model itself is set to."""
    backend = backend_of(build(), checkpointing=False)
    backend.net.enable_gradient_checkpointing()
    assert runs_of_a_block(backend) == 1
    assert backend.net.gradient_checkpointing
    backend.checkpointing = True
    backend.net.disable_gradient_checkpointing()
    assert runs_of_a_block(backend) == 2
    assert not backend.net.gradient_checkpointing


def runs_of_a_block(backend: DiffusersFlowModel) -> int:
    """How often a forward and backward pass computes a block."""
    runs: list[int] = []
    layer = backend.net.transformer_blocks[0].attn.to_q
    with backend.session():
        lora = trained_lora(backend)
        with (
            layer.register_forward_hook(lambda *_: runs.append(1)),
            lora.attach(slices_of(backend, lora)),
        ):
            backend.velocity(*inputs()).sum().backward()
    return len(runs)


def test_a_block_recomputed_in_backward_leaves_the_capture_alone() -> None:
    request = capture()
    with backend_of(build()).session() as backend:
        lora = trained_lora(backend)
        with lora.attach(slices_of(backend, lora)):
            velocity = backend.velocity(*inputs(), capture=request)
            seen = dict(request.mass)
            velocity.sum().backward()
    assert all(request.mass[block] is mass for block, mass in seen.items())


def test_wrong_models_layers_and_blocks_are_named() -> None:
    with pytest.raises(
        ValueError, match=r"Got Linear, expected a Flux, SD3, .* or Z-Image model\. Load FLUX"
    ):
        DiffusersFlowModel(torch.nn.Linear(1, 1), scheduler())
    net = convert(build())
    with pytest.raises(ValueError, match="Got no guidance for a model with a guidance input"):
        DiffusersFlowModel(net, scheduler(), guidance=None)
    backend = DiffusersFlowModel(net, scheduler())
    for name in ("transformer_blocks.2.attn.add_q_proj", "transformer_blocks.0.attn"):
        with pytest.raises(ValueError, match=f"Got layer '{name}', expected a diffusers name"):
            backend.linear_slices([name])
    with pytest.raises(ValueError, match=r"Got capture blocks \(5,\), expected some of 0 to 3"):
        backend.velocity(*inputs(), capture=capture(5))


def test_other_variants_of_flux_are_named() -> None:
    fill = FluxTransformer2DModel(**{**sizes_of(build().model.diffusion_model), "in_channels": 96})
    fill.out_channels = 64
    with pytest.raises(ValueError, match="Got a variant with 96 channels in and 64 out, expected"):
        DiffusersFlowModel(fill, scheduler())
    fused = convert(build())
    fused.fuse_qkv_projections()
    with pytest.raises(ValueError, match=r"fused projections.*Call unfuse_qkv_projections"):
        DiffusersFlowModel(fused, scheduler())
