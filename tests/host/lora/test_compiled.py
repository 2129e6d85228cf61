"""A model that another node compiles: trained on, patched and watched as it is without."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graph
import pytest
import torch
from comfy_api.torch_helpers import set_torch_compile_wrapper
from eraseanything_pack.erase_engine.lora.file import load_lora
from watching import ksampler, same_as_preview, seen, watch


def compiled(model: Any) -> Any:
    """As the node TorchCompileModel has it, by torch's compiler that needs no other program."""
    clone = model.clone()
    set_torch_compile_wrapper(clone, backend="eager")
    return clone


@pytest.fixture
def model() -> Any:
    return graph.flux()


@pytest.mark.thorough
def test_a_training_gives_the_same_lora(model: Any, loras: Path) -> None:
    graph.erase(model, file_name="plain")
    graph.erase(compiled(model), file_name="compiled")
    names = ("plain", "compiled")
    plain, other = (load_lora(loras / f"{name}_00001.safetensors")[0] for name in names)
    torch.testing.assert_close(other, plain, rtol=0, atol=1e-6)


ALWAYS = pytest.param(1.0, marks=pytest.mark.thorough)  # the compiler takes a quarter of a minute


@pytest.mark.parametrize("end", [ALWAYS, 0.5], ids=["always", "half of the sampling"])
def test_a_lora_acts_before_and_after(model: Any, end: float) -> None:
    lora = graph.connected(graph.lora_state(model))
    expected = graph.picture(graph.apply(model, lora=lora, end=end).args[0])
    assert (expected - graph.picture(model)).abs().max() > 1e-3
    before = graph.apply(compiled(model), lora=lora, end=end).args[0]
    after = compiled(graph.apply(model, lora=lora, end=end).args[0])
    for each in (before, after):
        torch.testing.assert_close(graph.picture(each), expected, rtol=0, atol=1e-5)


@pytest.mark.thorough
@pytest.mark.parametrize("first", ["compiled", "watched"])
def test_it_is_watched(model: Any, loras: Path, first: str) -> None:
    patched, positive, eye = watch(compiled(model) if first == "compiled" else model)
    patched = compiled(patched) if first == "watched" else patched
    same_as_preview(seen(eye, ksampler(patched, positive)), model)
