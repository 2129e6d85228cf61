"""What holds for the tiny Flux holds at FLUX.1-dev's width, and with float8 weights.

One double and one single block with few tokens; what needs no weights is asked of all 19 + 38.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from eraseanything_pack.benchmarks.full_width import (
    CONFIG,
    DEPTH,
    SINGLES,
    TOKENS,
    build,
    config_of,
    encoded_plan,
)
from eraseanything_pack.erase_engine.attention.mass import attention_mass
from eraseanything_pack.erase_engine.backends.comfy.attention import OVERRIDE
from eraseanything_pack.erase_engine.backends.comfy.model import ComfyFlowModel
from eraseanything_pack.erase_engine.families.flux import FLUX
from eraseanything_pack.erase_engine.interfaces import AttentionCapture
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.nodes.host.patch_lora import apply_lora
from eraseanything_pack.nodes.host.session import training_session
from snapshot import assert_same, snapshot
from wide import PIXELS, TEXT_LENGTH, Gradients, built, gradients, state_and_text

WIDTH = CONFIG["hidden_size"]


@pytest.mark.thorough  # as those of scaled float8 in test_packed_weights.py
def test_float8_gradients_are_those_of_the_weights_dequantized() -> None:
    packed, plain = built("float8_e4m3fn"), build(dtype="bfloat16")
    with torch.inference_mode():
        plain.model.load_state_dict(packed.model.state_dict())
    found, expected = gradients(packed), gradients(plain)
    for name, value in expected.items():
        assert value.norm() > 0, name
        torch.testing.assert_close(found[name], value, rtol=0, atol=0, msg=name)


# Float8 is tiny nets' in quick tests, of each family: here half a minute, most of it torch's casts.
FLOAT8 = pytest.param("float8_e4m3fn", 1, marks=pytest.mark.thorough)


@pytest.mark.parametrize(("dtype", "steps"), [("bfloat16", 2), FLOAT8])
def test_steps_give_a_lora_and_the_model_back(dtype: str, steps: int) -> None:
    model, config, encoded = built(dtype), config_of(PIXELS, steps=steps), encoded_plan(8)
    before = snapshot(model, encoded.concept)
    with torch.inference_mode(), training_session(model, checkpointing=False) as backend:
        assert backend.dtype == torch.bfloat16
        generator = torch.Generator().manual_seed(0)
        state = train_erasure(backend, encoded, config, generator=generator).state
    assert_same(before, snapshot(model, encoded.concept))
    name = "transformer_blocks.0.attn.add_{}_proj.lora_{}.weight"
    for layer in "qk":
        down, up = state[name.format(layer, "A")], state[name.format(layer, "B")]
        assert (down.shape, up.shape) == ((8, WIDTH), (WIDTH, 8))
        assert down.isfinite().all() and up.isfinite().all() and up.any()


def test_every_layer_of_all_blocks_has_its_rows() -> None:
    """As diffusers, which names the layers, makes them: names, widths, and no row left over."""
    with torch.device("meta"):
        theirs = FluxTransformer2DModel(guidance_embeds=True)
    blocks = {
        name: (module.out_features, module.in_features)
        for name, module in theirs.named_modules()
        if isinstance(module, torch.nn.Linear) and "transformer_blocks." in name
    }
    backend = ComfyFlowModel(build(DEPTH, SINGLES, device="meta"))
    slices = backend.linear_slices(blocks)
    assert len(blocks) == DEPTH * 14 + SINGLES * 6
    assert {n: (part.length, part.in_features) for n, part in slices.items()} == blocks
    rows: dict[torch.nn.Module, list[tuple[int, int]]] = {}
    for part in slices.values():
        rows.setdefault(part.module, []).append((part.start, part.start + part.length))
    for module, parts in rows.items():
        starts, ends = zip(*sorted(parts), strict=True)
        assert (0, *ends) == (*starts, module.out_features)


def published_lora() -> Gradients:
    """Names, shapes and dtype of the authors' own file: 76 tensors, rank 8."""
    state = {}
    for layer in FLUX.target_names("text_qk", DEPTH):
        state[f"transformer.{layer}.lora_A.weight"] = torch.ones(8, WIDTH, dtype=torch.bfloat16)
        state[f"transformer.{layer}.lora_B.weight"] = torch.ones(WIDTH, 8, dtype=torch.bfloat16)
    return state


def test_a_lora_like_the_published_one_finds_all_its_layers() -> None:
    state, model = published_lora(), build(DEPTH, SINGLES, device="meta")
    assert len(state) == 76
    clone, layers = apply_lora(model, state, 1.0, name="published.safetensors")
    assert layers == 38 and not model.patches
    places = [f"diffusion_model.double_blocks.{i}.txt_attn.qkv.weight" for i in range(DEPTH)]
    assert sorted(clone.patches) == sorted(places)
    for patches in clone.patches.values():
        rows = sorted(patch[3] for patch in patches)
        assert rows == [(0, 0, WIDTH), (0, WIDTH, WIDTH)]


def test_attention_mass_is_columns_of_a_dense_softmax() -> None:
    model, seen = built().clone(), []

    def record(func: Any, q: torch.Tensor, k: torch.Tensor, *args: Any, **options: Any) -> Any:
        seen.append((q.float(), k.float()))
        return func(q, k, *args, **options)

    model.model_options["transformer_options"] = {OVERRIDE: record}
    request, tokens = AttentionCapture(torch.tensor(TOKENS), (0,)), list(TOKENS[0])
    with torch.no_grad(), training_session(model) as backend:
        backend.velocity(*state_and_text(), capture=request)
    (q, k), *_ = seen
    image = q[:, :, TEXT_LENGTH:]
    dense = (image @ k.mT / image.shape[-1] ** 0.5).softmax(dim=-1)[..., tokens]
    assert dense.shape == (1, 24, 16, 2)
    exact = attention_mass(image, k, request.tokens)
    torch.testing.assert_close(exact, dense, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(request.mass[0], dense, rtol=1e-2, atol=1e-4)  # bfloat16's own
