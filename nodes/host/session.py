"""A MODEL borrowed for training, and given back as it was."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management

from ...erase_engine.backends.comfy.model import ComfyFlowModel, supported_family
from ...erase_engine.validation import shortened


@contextmanager
def training_session(
    model: Any,
    *,
    guidance: float | None = 3.5,
    checkpointing: bool = True,
    memory_required: int = 0,
) -> Iterator[ComfyFlowModel]:
    """A loaded MODEL with exact gradients; afterwards it is bit for bit what it was.

    Args:
        model: the node's MODEL input.
        guidance: the guidance input of guidance-distilled models, for teacher and student.
        checkpointing: recompute each block in backward instead of keeping its activations.
        memory_required: bytes to leave free beside the weights.

    Raises:
        ValueError: the model is of no supported family, raised before anything is loaded; or its
            weights were never read from a file.
    """
    supported_family(model)
    try:
        comfy.model_management.load_models_gpu([model], memory_required=memory_required)
    except NotImplementedError as error:  # what torch says of weights on the device `meta`
        raise ValueError(
            f"Got a model whose weights can't be moved ({shortened(str(error))}), expected one "
            "that was read whole. Load it again, from another file or by another loader."
        ) from error
    backend = ComfyFlowModel(model, guidance=guidance, checkpointing=checkpointing)
    with backend.session():
        yield backend
