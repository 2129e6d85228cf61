"""Guards taken away, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from eraseanything_pack.erase_engine.backends import blocks
from eraseanything_pack.erase_engine.backends.comfy import guards


@contextmanager
def nothing(*args: Any) -> Iterator[None]:
    yield


def without(*left_out: Callable[..., Any]) -> tuple[Callable[..., Any], ...]:
    return tuple(each for each in guards.LAYER_GUARDS if each not in left_out)


# Each norm guard stands in for the other, and which one a norm needs depends on the host.
NORMS = (guards.frozen_norm, guards.copied_parameters)
MUTANTS: dict[str, tuple[Any, str, Any]] = {
    "frozen_linear": (guards, "LAYER_GUARDS", without(guards.frozen_linear)),
    "norms": (guards, "LAYER_GUARDS", without(*NORMS)),
    "copying_layer_norm": (guards, "LAYER_GUARDS", without(guards.copying_layer_norm)),
    "own_copy": (blocks, "own_copy", lambda tensor: tensor),
    "frozen": (guards, "frozen", nothing),
    "outside_inference_mode": (guards, "outside_inference_mode", nothing),
    "declared_training": (guards, "declared_training", nothing),
}
