"""ComfyUI's own LoRA loader gives the same model as our adapters attached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.sd
import comfy.utils
import pytest
import torch
from eraseanything_pack.erase_engine.families.flux import FLUX
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from eraseanything_pack.erase_engine.lora.file import load_lora, save_lora
from eraseanything_pack.nodes.host.session import training_session
from tiny_flux import build, inputs, slices_of

ELSEWHERE = [
    "context_embedder",
    *(
        f"single_transformer_blocks.1.{layer}"
        for layer in ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp", "proj_out")
    ),
]


def random_lora(backend: Any, names: list[str]) -> LoraSet:
    generator = torch.Generator().manual_seed(4)
    lora = LoraSet(backend.linear_slices(names), rank=3, alpha=4.5, generator=generator)
    for parameter in lora.parameters():
        parameter.data.normal_(std=0.3, generator=generator)
    return lora


def ours(names: list[str]) -> tuple[LoraSet, torch.Tensor]:
    with training_session(build()) as backend, torch.no_grad():
        lora = random_lora(backend, names)
        with lora.attach(slices_of(backend, lora)):
            return lora, backend.velocity(*inputs())


@torch.no_grad()
def through_core_loader(path: Path) -> tuple[int, torch.Tensor]:
    """Number of patched weights, and the velocity, after the host's own loader."""
    file = comfy.utils.load_torch_file(str(path), safe_load=True)
    model, _ = comfy.sd.load_lora_for_models(build(), None, file, 1.0, 0.0)
    with training_session(model) as backend:
        return len(model.patches), backend.velocity(*inputs())


@pytest.mark.parametrize("target", FLUX.targets)
def test_file_in_the_hosts_loader_equals_attached(tmp_path: Path, target: str) -> None:
    _compare(tmp_path / "a.safetensors", FLUX.target_names(target, 2))


def test_layers_of_no_target_set(tmp_path: Path) -> None:
    """What others train: the text's entrance, and a single block."""
    _compare(tmp_path / "a.safetensors", ELSEWHERE)


def _compare(path: Path, names: list[str]) -> None:
    lora, expected = ours(names)
    save_lora(path, lora.state_dict(), {})
    patched, found = through_core_loader(path)
    assert patched > 0
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_training_goes_on_from_a_file(tmp_path: Path) -> None:
    names = FLUX.target_names("text_qk", 2)
    lora, expected = ours(names)
    save_lora(tmp_path / "a.safetensors", lora.state_dict(), {"concept": "cat"})
    state, _ = load_lora(tmp_path / "a.safetensors")
    with training_session(build()) as backend, torch.no_grad():
        slices = backend.linear_slices(names)
        again = LoraSet(slices, rank=3, generator=torch.Generator().manual_seed(0))
        again.load_state_dict(state)
        with again.attach(slices):
            torch.testing.assert_close(backend.velocity(*inputs()), expected)
