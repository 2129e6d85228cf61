"""Base weights without gradients, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def frozen(net: Any) -> Iterator[None]:
    """Base weights ask for no gradient: autograd then keeps less, and computes less."""
    before = [(weight, weight.requires_grad) for weight in net.parameters()]
    net.requires_grad_(False)
    try:
        yield
    finally:
        for weight, wanted in before:
            weight.requires_grad_(wanted)
