"""What a training will need of the machine: said before it starts, refused where it can't fit."""

from __future__ import annotations

from math import isclose
from typing import Any
from weakref import WeakKeyDictionary

import comfy.model_management
import comfy.model_patcher
import comfy.ops
import torch

from ...erase_engine.backends.comfy.model import ComfyFlowModel
from ...erase_engine.closed_form.text_rows import TextRows
from ...erase_engine.config import EraseConfig
from ...erase_engine.interfaces import Prompt
from ...erase_engine.memory import (
    META,
    MemoryEstimate,
    estimate_memory,
    gigabytes,
)
from ...erase_engine.training.encoded_prompts import EncodedPrompts

PACKED_BITS = 15  # of a number at most; bf16 and fp16 have 16

# Of each model that is loaded, the estimates that were made: each takes some seconds.
_known: WeakKeyDictionary[Any, dict[Any, MemoryEstimate]] = WeakKeyDictionary()


def needed(model: Any, encoded: EncodedPrompts, config: EraseConfig) -> MemoryEstimate:
    """The peak of a step on this MODEL, by parts."""
    prompt, rows = encoded.longest, encoded.entrance
    sizes = {"watched": encoded.tokens.all.shape[1], "rows": rows}
    shapes = [each.shape for each in (prompt.text, *(rows.tensors if rows else ()))]
    key = (config, *shapes, sizes["watched"], model.model_size(), ComfyFlowModel(model).dtype)
    known = _known.setdefault(model.model, {})
    if key not in known:
        known[key] = peak_of_step(model, config, prompt, **sizes)
    return known[key]


def peak_of_step(
    model: Any,
    config: EraseConfig,
    prompt: Prompt,
    *,
    watched: int,
    rows: TextRows | None = None,
    checkpointing: bool = True,
) -> MemoryEstimate:
    """`estimate_memory` of a MODEL, which is read and left alone.

    The weights are as large as the host says: packed ones may have any number of bytes.
    """
    twin = ComfyFlowModel(meta_twin(model), guidance=config.guidance, checkpointing=checkpointing)
    with twin.session():
        sizes = {"watched": watched, "weights": model.model_size(), "rows": rows}
        return estimate_memory(twin, config, prompt, **sizes)


class AtOnce(comfy.ops.manual_cast):
    """Layers that have weights from the start; newer hosts' wait until a file is read."""

    class Linear(comfy.ops.manual_cast.Linear):
        def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
            torch.nn.Linear._load_from_state_dict(self, *args, **options)

    class Embedding(comfy.ops.manual_cast.Embedding):
        def _load_from_state_dict(self, *args: Any, **options: Any) -> None:
            torch.nn.Embedding._load_from_state_dict(self, *args, **options)


def meta_twin(model: Any) -> comfy.model_patcher.ModelPatcher:
    """A MODEL as large as this one, without patches, values or memory.

    Weights that are not of the dtype that the model computes in are cast for each use. How this
    one holds them, packed or not, does not matter: the twin's are float8 then.
    """
    own, dtype = model.model.model_config, ComfyFlowModel(model).dtype
    config = object.__new__(type(own))  # copy.copy asks newer hosts' configs for what they lack
    vars(config).update(vars(own), unet_config=dict(own.unet_config))
    config.custom_operations = AtOnce
    config.set_inference_dtype(dtype, dtype)
    base = config.get_model({}, "", device=META)
    plain = sum(weight.nbytes for weight in base.diffusion_model.parameters())
    if not isclose(model.model_size(), plain, rel_tol=0.01):
        base.diffusion_model.to(torch.float8_e4m3fn)
    return comfy.model_patcher.ModelPatcher(base, META, META)


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


def packed_in_words(model: Any) -> str:
    """A word on weights that take fewer bits than the numbers a model is published in; or ""."""
    numbers = sum(weight.numel() for weight in meta_twin(model).model.diffusion_model.parameters())
    if 8 * model.model_size() > PACKED_BITS * numbers:
        return ""
    return (
        "The weights stay packed, as fp8 and GGUF files have them; the LoRA goes on this model in "
        "other formats, too."
    )


def left_behind(model: Any, memory: MemoryEstimate) -> int:
    """About how many bytes of the weights find no room on the GPU; the host streams them."""
    device, host = model.load_device, comfy.model_management
    if device.type == "cpu":
        return 0
    beside = memory.beside_weights + host.extra_reserved_memory()
    room = host.get_total_memory(device) - max(beside, host.minimum_inference_memory())
    return max(0, int(memory.weights - room))
