"""What nodes have done with a model keeps nothing of it alive, and prompts leave nothing behind."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management
import graph
import pytest
import torch
from watching import ksampler, maps_of, watch

import nodes as host_nodes

FEW, MANY = 12, 60  # prompts; a watch remembers its last eight samplings


def cancelled(model: Any) -> None:
    """A training that the user stops at its first step."""
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        graph.erase(model)


WORK: dict[str, Callable[[Any], object]] = {
    "erase": graph.erase,
    "cancelled": cancelled,
    "look": graph.look,
    "range": lambda model: graph.picture(
        graph.apply(model, lora=graph.connected(graph.lora_state(model)), end=0.5).args[0]
    ),
}


@pytest.mark.parametrize("name", WORK)
def test_a_model_is_freed_once_nobody_has_it(name: str, loras: Path) -> None:
    model = graph.flux()
    base = weakref.ref(model.model)
    WORK[name](model)
    del model
    gc.collect()
    assert base() is None


def bytes_alive() -> int:
    """Of all tensors that anybody holds, those that share memory counted once."""
    gc.collect()
    kinds = torch.Tensor, torch.nn.Parameter  # not a compiler's fakes, which have no memory
    held = [each for each in gc.get_objects() if type(each) in kinds and not each.is_meta]
    storages = {each.untyped_storage().data_ptr(): each.untyped_storage().nbytes() for each in held}
    return sum(storages.values())


@torch.inference_mode()
def test_memory_is_the_same_after_many_prompts(loras: Path) -> None:
    """Of a LoRA that is on in a part of sampling, and a watch: both act in every pass."""
    lora = graph.connected(graph.lora_state(graph.flux()))
    erased = graph.apply(graph.flux(), lora=lora, end=0.5).args[0]
    patched, positive, eye = watch(erased)
    encode = host_nodes.CLIPTextEncode().encode
    others = [encode(graph.clip(), f"a star, number {number:02d}")[0] for number in range(MANY)]
    alive = []
    for number, other in enumerate(others):
        latent = ksampler(patched, positive, seed=number, steps=2, cfg=2.0, negative=other)
        assert maps_of(eye, latent).steps.shape[0] == 2
        if number in (FEW, MANY - 1):
            alive.append(bytes_alive())
    assert alive[0] == alive[1]


def test_text_is_encoded_before_the_model_is_loaded_and_never_again(
    loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the host can take the encoders off the card to make room for the transformer."""
    own, loaded = comfy.model_management.load_models_gpu, []

    def counted(models: Any, *args: Any, **kwargs: Any) -> Any:
        loaded.extend(type(each.model).__name__ for each in models)
        return own(models, *args, **kwargs)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", counted)
    model = graph.flux()
    graph.erase(model)
    net = type(model.model).__name__
    assert net in loaded and len(set(loaded)) > 1
    assert set(loaded[loaded.index(net) :]) == {net}
