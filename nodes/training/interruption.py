"""What a stopped training leaves: the LoRA of its last step, and a folder that it goes on from."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import folder_paths

from ...erase_engine.training.checkpoint import Checkpoint
from ...erase_engine.training.loop import Erasure
from ..lora.files import FOLDER, lora_name
from .events import TrainingEvents


def checkpoint_for(stem: Path, *, resume: bool) -> Checkpoint:
    """In ComfyUI's output folder, under the LoRA's name: one for each name, the last one stays."""
    name = Path(lora_name(stem))
    inside = name.relative_to(FOLDER) if name.parts[0] == FOLDER else name
    folder = Path(folder_paths.get_output_directory()) / FOLDER / "unfinished" / inside
    return Checkpoint(folder, resume=resume)


def keeper(
    live: TrainingEvents, stem: Path, save: Callable[[Path, Erasure], Path]
) -> Callable[[Erasure | None, int], None]:
    """For `save_on_interrupt`: saves the LoRA so far beside the LoRAs, and tells the page.

    It has its step in its name: `star_step60_00001.safetensors`.
    """

    def keep(so_far: Erasure | None, step: int) -> None:
        if so_far:
            live.saved = lora_name(save(stem.with_name(f"{stem.name}_step{step}"), so_far))

    return keep
