"""Weights that stay off the device and are cast on use train to the same LoRA."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import comfy.model_patcher
import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import ComfyFlowModel
from eraseanything_pack.erase_engine.config import EraseConfig, LoraConfig
from eraseanything_pack.erase_engine.families.flux import FLUX
from eraseanything_pack.erase_engine.interfaces import Conditioning, TokenSet
from eraseanything_pack.erase_engine.training.cost import weight_reads
from eraseanything_pack.erase_engine.training.encoded_prompts import EncodedPrompts
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.nodes.host.patch_lora import apply_lora
from eraseanything_pack.nodes.host.session import training_session
from expected import reference_gradients, relative_error
from random_nets import trained_lora
from tiny_flux import TOKENS, build, gradients, inputs
from torch._subclasses.fake_tensor import FakeTensorMode
from wide import built
from wide import gradients as wide_gradients

CONFIG = EraseConfig.from_recipe(
    solver="alternate",
    steps=4,
    batch=2,
    keep_per_step=2,
    trajectories=2,
    trajectory_steps=2,
    width=48,
    height=32,
    lora=LoraConfig(rank=3, targets="text_pooled"),
)


class SmallCard(comfy.model_patcher.ModelPatcher):
    """A model whose device never takes more than half of it: the host does the rest.

    On the CPU alone the host never loads partially by itself.
    """

    def partially_load(self, device_to: Any, extra_memory: float = 0, **options: Any) -> Any:
        room = self.model_size() / 2 - self.loaded_size()
        return super().partially_load(device_to, min(extra_memory, room), **options)


def on_a_small_card(model: Any) -> SmallCard:
    """The same weights and patches, nothing of it loaded."""
    model.detach()
    card = SmallCard(model.model, model.load_device, model.offload_device)
    card.patches, card.patches_uuid = model.patches, model.patches_uuid
    return card


@contextmanager
def partly_loaded(model: Any) -> Iterator[ComfyFlowModel]:
    """A session in which some Linears are cast on use, and others are not."""
    with training_session(on_a_small_card(model)) as backend:
        linears = [each for each in model.model.modules() if hasattr(each, "in_features")]
        cast = sum(hasattr(each, "prev_comfy_cast_weights") for each in linears)
        assert model.model.model_lowvram and 0 < cast < len(linears)
        yield backend


def patched() -> Any:
    """A tiny Flux with somebody's LoRA on it, which low-VRAM loading applies at each cast."""
    model = build(inference=False)
    state, generator = {}, torch.Generator().manual_seed(5)
    with training_session(model) as backend:
        slices = backend.linear_slices(FLUX.target_names("all_attention", 2))
    for name, part in slices.items():
        shapes = {"A": (3, part.in_features), "B": (part.length, 3)}
        for side, shape in shapes.items():
            draw = 0.2 * torch.randn(shape, generator=generator)
            state[f"transformer.{name}.lora_{side}.weight"] = draw
    return apply_lora(model, state, 1.0, name="somebody's")[0]


def encoded_plan() -> EncodedPrompts:
    def prompts(seed: int) -> Conditioning:
        return inputs(seed)[2]

    tokens = TokenSet(torch.tensor(TOKENS), torch.tensor([[0, 2], [0, 1]]))
    return EncodedPrompts(prompts(1), prompts(2), tokens, prompts(3), prompts(4).prompts[0], None)


def trained(backend: ComfyFlowModel) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    return train_erasure(backend, encoded_plan(), CONFIG, generator=generator).state


def test_how_often_weights_are_read_is_known_before() -> None:
    """Those of a block, which is run once more for the backward."""
    count = 0

    def read(*_: Any) -> None:
        nonlocal count
        count += 1

    model = build()
    with torch.inference_mode(), partly_loaded(model) as backend:
        layer = model.model.diffusion_model.double_blocks[0].img_mlp[0]
        with layer.register_forward_hook(read):
            trained(backend)
    assert count == weight_reads(encoded_plan(), CONFIG, guided=False) > 2 * CONFIG.steps


@pytest.mark.parametrize("make", [build, patched], ids=["plain", "with_a_lora"])
def test_the_lora_is_that_of_the_model_loaded_fully(make: Any) -> None:
    with torch.inference_mode(), training_session(make()) as backend:
        expected = trained(backend)
    with torch.inference_mode(), partly_loaded(make()) as backend:
        found = trained(backend)
    assert any(value.any() for key, value in found.items() if "lora_B" in key)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


def test_the_gradient_is_the_references() -> None:
    model = build()
    with torch.inference_mode(), partly_loaded(model) as backend:
        lora = trained_lora(backend, "all_attention")
        found = gradients(backend, lora)
        expected = reference_gradients(model, backend, lora)
    assert relative_error(found, expected) < 1e-5


def test_the_gradient_at_full_width_is_that_of_the_model_loaded_fully() -> None:
    model = built()
    expected = wide_gradients(model)
    card = on_a_small_card(model)
    found = wide_gradients(card)
    assert card.model.model_lowvram
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


def test_offloaded_weights_meet_their_inputs_on_the_gpu() -> None:
    """Tensors without numbers know their device: whatever stays behind is an error here."""
    with FakeTensorMode(allow_non_fake_inputs=True):
        gpu, cpu = torch.device("cuda", 0), torch.device("cpu")
        base = build(inference=False).model
        model = comfy.model_patcher.ModelPatcher(base, gpu, cpu)
        model.patch_model(gpu, lowvram_model_memory=1)
        backend = ComfyFlowModel(model)
        with backend.session():
            slices = backend.linear_slices(FLUX.target_names("all_attention", 2))
            lora = backend.adapters(slices, rank=2, generator=torch.Generator())
            with lora.attach(slices):
                velocity = backend.velocity(*inputs())
    assert {weight.device for weight in base.parameters()} == {cpu}
    assert velocity.device == gpu and velocity.requires_grad
