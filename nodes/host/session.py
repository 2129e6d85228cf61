"""A MODEL borrowed for training, and given back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management

from ...erase_engine.backends.comfy.model import ComfyFlowModel, require_flux


@contextmanager
def training_session(
    model: Any,
    *,
    guidance: float | None = 3.5,
    checkpointing: bool = True,
    memory_required: int = 0,
) -> Iterator[ComfyFlowModel]:
    """A loaded Flux with exact gradients; afterwards the MODEL is bit for bit what it was.

    Args:
        model: the node's MODEL input.
        guidance: FLUX.1 [dev]'s guidance input for teacher and student.
        checkpointing: recompute each block in backward instead of keeping its activations.
        memory_required: bytes to leave free beside the weights.

    Raises:
        ValueError: the model is not a text-to-image Flux; raised before anything is loaded.
    """
    require_flux(model)
    comfy.model_management.load_models_gpu([model], memory_required=memory_required)
    backend = ComfyFlowModel(model, guidance=guidance, checkpointing=checkpointing)
    with backend.session():
        yield backend
