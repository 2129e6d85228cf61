"""Base weights without gradients, for a while."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


@contextmanager
def frozen(net: Any) -> Iterator[None]:
    """Base weights ask for no gradient: autograd then keeps less, and computes less."""
    before = [(weight, weight.requires_grad) for weight in net.parameters()]
    net.requires_grad_(False)
    try:
        yield
    finally:
        with torch.inference_mode():  # else weights that were made in it can't ask for one again
            for weight, wanted in before:
                weight.requires_grad_(wanted)
