"""What a training will need of the machine: said before it starts, refused where it can't fit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import comfy.model_management

from ...erase_engine.config import EraseConfig
from ...erase_engine.memory import (
    MemoryEstimate,
    TrainingSize,
    estimate_memory,
    gigabytes,
    weights_of,
)
from ...erase_engine.training.encoded_prompts import EncodedPrompts


def needed(model: Any, encoded: EncodedPrompts, config: EraseConfig) -> MemoryEstimate:
    """The peak of a step on this MODEL, by parts.

    The weights are as large as the host says: packed ones may have any number of bytes.
    """
    base, size = model.model, model.model_size()
    params = base.diffusion_model.params
    blocks = {"depth": params.depth, "singles": params.depth_single_blocks}
    setting = TrainingSize.of(
        config,
        encoded.concept.text.shape[1],
        **blocks,
        hidden=params.hidden_size,
        weight_bytes=max(1, round(size / weights_of(**blocks, hidden=params.hidden_size))),
        compute_bytes=(base.manual_cast_dtype or base.get_dtype()).itemsize,
    )
    return replace(estimate_memory(setting), weights=size)


def check_room(model: Any, memory: MemoryEstimate) -> None:
    """ValueError where a GPU could not hold a step even with all weights outside of it.

    The host keeps weights that don't fit in the computer's memory, so they alone are no reason.
    """
    device = model.load_device
    if device.type == "cpu":
        return
    room = comfy.model_management.get_total_memory(device)
    if memory.beside_weights > room:
        raise ValueError(
            f"Got a GPU with {gigabytes(room)}, expected at least "
            f"{gigabytes(memory.beside_weights)} for one step beside the weights. Lower "
            "resolution, then batch."
        )
