"""LoRAs of other trainers, on in a part of sampling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graph
import pytest
import torch
from safetensors.torch import save_file


@pytest.fixture
def model() -> Any:
    return graph.flux()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.float8_e4m3fn], ids=str)
def test_ranks_and_alphas_may_differ_by_layer_in_a_range_too(
    model: Any, loras: Path, dtype: torch.dtype
) -> None:
    state = graph.lora_state(model)
    for number, name in enumerate(
        [k.removesuffix(".lora_A.weight") for k in state if "lora_A" in k]
    ):
        a, b = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
        rank = 1 + number % len(state[a])
        state |= {a: state[a][:rank].clone(), b: state[b][:, :rank].clone()}
        state[f"{name}.alpha"] = torch.tensor([2.0 + number])  # as some trainers shape it
    state = {k: v if k.endswith("alpha") else v.to(dtype) for k, v in state.items()}
    save_file(state, loras / "a.safetensors")
    always = graph.picture(graph.apply(model, file="a.safetensors").args[0])
    early = graph.apply(model, file="a.safetensors", end=0.5).args[0]
    both = graph.picture(graph.apply(early, file="a.safetensors", start=0.5).args[0])
    torch.testing.assert_close(both, always, rtol=0, atol=1e-4)
    assert (graph.picture(model) - always).abs().max() > 1e-3
