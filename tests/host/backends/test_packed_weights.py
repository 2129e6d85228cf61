"""At full width, with weights that have to be unpacked: scaled float8, and such as GGUF brings.

Each model has a plain twin, whose bfloat16 weights are what the packed ones say.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import comfy.sd
import pytest
import torch
from eraseanything_pack.benchmarks.full_width import TOKENS, build, config_of, encoded_plan
from eraseanything_pack.benchmarks.stored import FLOAT8, PackedPatcher, pack, packed_model
from eraseanything_pack.erase_engine.families.flux import FLUX
from eraseanything_pack.erase_engine.interfaces import AttentionCapture
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.nodes.host.patch_lora import apply_lora
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.nodes.training.memory_check import needed
from torch import Tensor
from wide import PIXELS, TEXT_LENGTH, gradients, state_and_text

SCALE = 2.0**-9  # a power of two, so that it makes no difference what it is multiplied with


# --- float8 with a scale for each layer ----------------------------------------------------------


def scaled_float8(plain: Any) -> Any:
    """What the host's own loader makes of a file in the scaled_fp8 layout."""
    state = {}
    for name, weight in plain.model.diffusion_model.state_dict().items():
        state[name] = weight.clone()
        if weight.ndim == 2:
            state[name] = (weight / SCALE).to(FLOAT8)
            state[name.replace(".weight", ".scale_weight")] = torch.tensor(SCALE)
            weight.copy_(state[name].to(weight) * SCALE)
        elif name.endswith(".bias"):
            weight.copy_(weight.to(FLOAT8))
            state[name] = weight.clone()
    state["scaled_fp8"] = torch.empty(2, dtype=FLOAT8)  # two numbers: no float8 multiplication
    model = comfy.sd.load_diffusion_model_state_dict(state)
    model.set_model_compute_dtype(torch.bfloat16)
    return model


# --- a weight that only its own layer can read ---------------------------------------------------


PACKED = (
    "double_blocks.0.txt_attn.qkv",
    "double_blocks.0.img_attn.proj",
    "single_blocks.0.linear2",
)


def packed(plain: Any) -> Any:
    """As GGUF nodes load a model: layers of their own (some are enough), and a patcher."""
    model = build()
    for name in PACKED:
        layer = model.model.diffusion_model.get_submodule(name)
        pack(layer)
        plain.model.diffusion_model.get_submodule(name).weight.copy_(layer.weight.unpacked())
    return packed_model(model)


# --- tests ---------------------------------------------------------------------------------------

KINDS = {"scaled_float8": scaled_float8, "packed": packed}


@pytest.fixture(scope="module", params=KINDS)
def models(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Any]]:
    """The packed model and its plain twin."""
    with torch.inference_mode():
        plain = build()
        made = KINDS[request.param](plain)
    yield made, plain


def test_gradients_are_those_of_the_weights_unpacked(models: tuple[Any, Any]) -> None:
    found, expected = (gradients(model) for model in models)
    for name, value in expected.items():
        assert value.norm() > 0, name
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


@pytest.mark.parametrize(
    "models",
    [pytest.param("scaled_float8", marks=pytest.mark.thorough), "packed"],  # a quarter of a minute
    indirect=True,
)
def test_training_gives_a_lora(models: tuple[Any, Any]) -> None:
    encoded, generator = encoded_plan(TEXT_LENGTH), torch.Generator().manual_seed(0)
    with torch.inference_mode(), training_session(models[0], checkpointing=False) as backend:
        assert backend.dtype == torch.bfloat16
        state = train_erasure(backend, encoded, config_of(PIXELS), generator=generator).state
    for key, value in state.items():
        assert value.isfinite().all() and value.any(), key


def test_the_lora_applied_is_the_lora_attached(models: tuple[Any, Any]) -> None:
    """In velocity and attention, but for rounding: of bfloat16, and of float8 once more."""
    model = models[0]
    with torch.inference_mode(), training_session(model) as backend:
        base = seen(backend)
        slices = backend.linear_slices(FLUX.target_names("text_pooled", 1))
        lora = backend.adapters(slices, rank=8, generator=torch.Generator().manual_seed(2))
        for parameter in lora.parameters()[1::2]:
            parameter.data.normal_(std=0.3, generator=torch.Generator().manual_seed(3))
        with lora.attach(slices):
            attached = seen(backend)
    clone, layers = apply_lora(model, prefixed(lora), 1.0, name="mine")
    assert layers == len(slices)
    with torch.inference_mode(), training_session(clone) as backend:
        applied = seen(backend)
    for one, other, without in zip(applied, attached, base, strict=True):
        change = (other - without).norm()
        assert (one - other).norm() < 0.3 * change


def test_preflight_counts_them_as_they_lie(models: tuple[Any, Any]) -> None:
    """With the one that is unpacked on use beside them."""
    found, plain = (needed(model, encoded_plan(), config_of(PIXELS)) for model in models)
    share = 0.92 if isinstance(models[0], PackedPatcher) else 0.5
    assert found.weights == pytest.approx(share * plain.weights, rel=0.01)
    largest = max(weight.nbytes for weight in models[1].model.diffusion_model.parameters())
    assert 0.5 * largest < found.working - plain.working <= largest


@torch.no_grad()
def seen(backend: Any) -> tuple[Tensor, Tensor]:
    """Velocity and attention mass."""
    request = AttentionCapture(torch.tensor(TOKENS), (0,))
    velocity = backend.velocity(*state_and_text(), capture=request)
    return velocity, request.mass[0]


def prefixed(lora: LoraSet) -> dict[str, Tensor]:
    return {f"transformer.{key}": value for key, value in lora.state_dict().items()}
