"""What `benchmarks.precision` is made of: one model stored in seven ways, and a LoRA on each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from eraseanything_pack.benchmarks import precision
from eraseanything_pack.benchmarks.stored import STORED, Packed
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.interfaces import Conditioning
from eraseanything_pack.nodes.host.patch_lora import apply_lora
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.tinyworld.load import load_tiny
from eraseanything_pack.tinyworld.models import load_weights
from torch import Tensor

# Most of the velocity that rounding its weights may change; four bits are coarse.
ROUNDING = {"float32": 1e-6, "float16": 2e-3, "bfloat16": 0.02, "8 bit, packed": 0.03}
ROUNDING |= {"float8": 0.1, "scaled float8": 0.1, "4 bit, packed": 0.3}


@pytest.fixture(scope="module")
def exact() -> Any:
    return load_tiny("Flux")[0]


@torch.no_grad()
def velocity(model: Any) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 16, 16, 16, generator=generator)
    text = torch.randn(2, 24, 64, generator=generator)
    cond = Conditioning.stacked(text, torch.randn(2, 32, generator=generator))
    with torch.inference_mode(), training_session(model) as backend:
        return backend.velocity(x, torch.tensor([0.9, 0.4]), cond).clone()


def lora() -> dict[str, Tensor]:
    """A LoRA on the text's entrance that moves the velocity by a good part."""
    generator, name = torch.Generator().manual_seed(1), "transformer.context_embedder"
    return {
        f"{name}.lora_A.weight": 0.3 * torch.randn(8, 64, generator=generator),
        f"{name}.lora_B.weight": 0.15 * torch.randn(160, 8, generator=generator),
    }


def difference(one: Tensor, other: Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()


@pytest.mark.parametrize("name", STORED)
def test_each_way_to_store_it_is_that_model(exact: Any, name: str) -> None:
    model = STORED[name](load_weights("flux"))
    found, expected = velocity(model), velocity(exact)
    assert difference(found, expected) <= ROUNDING[name]
    if name != "float32":
        assert difference(found, expected) > 1e-5  # it is stored otherwise, indeed
    applied, erased = (apply_lora(each, lora(), 1.0, name="it")[0] for each in (model, exact))
    change = velocity(erased) - expected
    assert change.norm() > 0.1 * expected.norm()
    for _ in range(2):  # the second time it is loaded already
        assert difference(velocity(applied) - found, change) < 0.1 + 2 * ROUNDING[name]
    torch.testing.assert_close(velocity(model), found, rtol=0, atol=0)  # and it is given back


def test_a_block_s_numbers_share_a_scale() -> None:
    weight = torch.randn(4, 64, generator=torch.Generator().manual_seed(0))
    coarse, fine = Packed.of(weight, block=32, most=7), Packed.of(weight)
    assert coarse.shape == fine.shape == weight.shape and coarse.scale.shape == (4, 2, 1)
    assert len(coarse.as_subclass(Tensor).unique()) <= 15
    step = weight.view(4, 2, 32).abs().amax(2, keepdim=True) / 7
    error = (coarse.unpacked() - weight).view(4, 2, 32).abs()
    assert (error <= step / 2 + 1e-6).all() and error.max() > 0
    assert (fine.unpacked() - weight).abs().max() < error.max()


def test_a_row_says_what_a_lora_does_on_stored_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(precision, "STORED", {"float8": STORED["float8"]})
    monkeypatch.setattr(precision, "siblings", lambda case: ["diamond"])
    (case,) = precision.cases_of("star", 6).values()
    erasure = case.world.erase(case.plan, EraseConfig.from_recipe("instant"))
    row = precision.measured(case, erasure)
    assert row["found"] == 0 and row["replaced_one"] == 100 and 0 < row["drift"] < 1e-3
    assert row["worst_word_name"] == "diamond"
    row |= {"trained": "float8", "applied": "float8"}
    assert "| **float8** | 0, 100 |" in precision.tables([row])[0]
