"""LoRA files fused in closed form on a MODEL, with an estimate, progress and cancel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import comfy.model_management
from torch import Tensor

from ...erase_engine.backends.comfy.model import ComfyFlowModel
from ...erase_engine.interfaces import Conditioning
from ...erase_engine.lora.fusion import (
    AT_ONCE,
    FusionMemory,
    fuse,
    fusion_memory,
    fusion_prompts,
    fusion_steps,
)
from ...erase_engine.lora.merge import State, layers_of
from ...erase_engine.memory import gigabytes
from ..host.encode import encoder_for, ordinary_tensors
from ..host.progress import sampling_progress
from ..host.session import training_session
from .slots import Part

SIZE = (32, 32)  # latent pixels of the noise that text is looked at beside


def fuse_parts(parts: Sequence[Part], model: Any, clip: Any) -> tuple[dict[str, Tensor], str]:
    """The LoRA that acts on each file's own prompts, and what making it took, in words.

    Raises ValueError, before any work, for a file without prompts, for another model's, and for a
    GPU that is too small. Raises the host's exception where the user cancels.
    """
    states = [part.state for part in parts]
    strengths = [part.strength for part in parts]
    prompts = fusion_prompts([part.plans for part in parts])
    memory, room = _needed(states, model)
    with ordinary_tensors():
        conds = _encoded(prompts, clip, model)
        with training_session(model, memory_required=room) as backend:
            steps = fusion_steps(states, conds)
            state = fuse(
                states,
                strengths,
                conds,
                backend=backend,
                latent_size=SIZE,
                on_step=sampling_progress(steps),
            )
    count = sum(map(len, prompts))
    texts = {id(one): one.text.nbytes for cond in conds for one in cond.prompts}
    host = memory.host + sum(texts.values())
    return state, (
        f"Looked at {count} prompts, with about {gigabytes(memory.device)} beside the model's "
        f"weights and a forward pass, and {gigabytes(host)} of the computer's memory."
    )


def _needed(states: Sequence[State], model: Any) -> tuple[FusionMemory, int]:
    """What a fusion keeps, and the bytes that must be free beside the weights on the device.

    Raises ValueError where a GPU could not hold them even with all weights outside of it.
    """
    backend = ComfyFlowModel(model)
    memory = fusion_memory(states, backend.linear_slices(layers_of(states)))
    passing = int(model.memory_required((AT_ONCE, backend.latents.channels, *SIZE)))
    needed = memory.device + passing
    device = model.load_device
    room = comfy.model_management.get_total_memory(device)
    if device.type != "cpu" and needed > room:
        raise ValueError(
            f"Got a GPU with {gigabytes(room)}, expected at least {gigabytes(needed)} beside the "
            "weights to fuse these LoRAs. Choose method sum, which needs none."
        )
    return memory, needed


def _encoded(prompts: Sequence[Sequence[str]], clip: Any, model: Any) -> list[Conditioning]:
    """Before the model is loaded, because the text encoders may push it out of memory."""
    encoder, dtype = encoder_for(clip, model), ComfyFlowModel(model).dtype
    on_prompt = sampling_progress(sum(map(len, prompts)))
    return [
        encoder.encode(some, dtype=dtype, on_prompt=on_prompt) if some else Conditioning(())
        for some in prompts
    ]
