"""Files for core's bypass loaders, by Merge: whole Linears, loaded whole on every family."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.sd
import comfy.utils
import folder_paths
import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import model_description
from eraseanything_pack.erase_engine.lora.file import save_lora
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.nodes.lora.merge import MergeErasures
from families.nets import NETS, distance
from random_nets import trained_lora

# Attention whose rows stand in one Linear with others', or apart; and text that enters alone.
TARGETS = dict.fromkeys(NETS, "all_attention") | {"z-image": "text_all", "lumina2": "text_in"}
HAS_BYPASS = hasattr(comfy.sd, "load_bypass_lora_for_models")


def merged(name: str, model: Any, loras: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A random LoRA in an ordinary file, and what Merge writes of it, both as core reads them."""
    with torch.inference_mode(), training_session(model) as backend:
        lora = trained_lora(backend, TARGETS[name])
        state = {key: value.clone() for key, value in lora.state_dict().items()}
    record = {"concept": "star", "base_model": model_description(model)}
    ordinary = save_lora(loras / "some.safetensors", state, record)
    folder_paths.filename_list_cache.pop("loras", None)
    widgets = {"file_name": "whole", "file_1": ordinary.name, "strength_1": 0.5}
    with torch.inference_mode():
        MergeErasures.execute("bypass", **widgets, model=model)
    return tuple(
        comfy.utils.load_torch_file(str(path), safe_load=True)
        for path in (ordinary, loras / "whole_00001.safetensors")
    )


@torch.inference_mode()
def velocity(patched: Any, name: str) -> torch.Tensor:
    x, t, cond = NETS[name].inputs()
    with training_session(patched) as backend:
        return backend.velocity(x, t, cond)


@pytest.mark.parametrize("name", NETS)
def test_core_loads_the_file_as_the_ordinary_one(name: str, loras: Path) -> None:
    model = NETS[name].build()
    before = velocity(model, name)
    ordinary, whole = merged(name, model, loras)
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    assert all(isinstance(keys[key.rsplit(".lora_", 1)[0]], str) for key in whole)  # no rows of one
    expected, found = (
        velocity(comfy.sd.load_lora_for_models(model, None, file, strength, 0.0)[0], name)
        for file, strength in ((ordinary, 0.5), (whole, 1.0))
    )
    assert distance(expected, before) > 1e-3
    assert distance(found, expected) < 1e-5


@pytest.mark.skipif(not HAS_BYPASS, reason="the host has no bypass loader")
@pytest.mark.parametrize("name", NETS)
def test_the_bypass_loader_takes_all_of_it(
    name: str, loras: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """And leaves out rows of Linears in an ordinary file: once it does not, this form may go."""
    model = NETS[name].build()
    ordinary, whole = merged(name, model, loras)
    expected = velocity(comfy.sd.load_lora_for_models(model, None, whole, 1.0, 0.0)[0], name)
    bypassed = comfy.sd.load_bypass_lora_for_models(model, None, whole, 1.0, 0.0)[0]
    bypassed.inject_model()
    found = velocity(bypassed, name)
    bypassed.eject_model()
    assert distance(found, expected) < 1e-5
    assert not [each for each in caplog.records if each.levelno >= logging.WARNING]
    fused = whole.keys() != ordinary.keys()
    comfy.sd.load_bypass_lora_for_models(model, None, ordinary, 1.0, 0.0)
    assert ("not in model state_dict" in caplog.text) == fused
