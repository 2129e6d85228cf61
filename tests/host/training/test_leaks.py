"""What nodes have done with a model keeps nothing of it alive."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.model_management
import graph
import pytest


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
