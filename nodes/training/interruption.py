"""Where a stopped training goes on from, in ComfyUI's output folder."""

from __future__ import annotations

from pathlib import Path

import folder_paths

from ...erase_engine.training.checkpoint import Checkpoint
from ...erase_engine.training.unfinished import note_of
from ..lora.files import FOLDER, lora_name


def checkpoint_for(stem: Path, *, resume: bool) -> Checkpoint:
    """Under the LoRA's name; each training has a folder of its own in there."""
    name = Path(lora_name(stem))
    inside = name.relative_to(FOLDER) if name.parts[0] == FOLDER else name
    return Checkpoint(_unfinished() / inside, resume=resume)


def note_of_unfinished() -> str:
    """How many lie there, how large they are, and how to be rid of them; "" for none."""
    return note_of(_unfinished())


def _unfinished() -> Path:
    return Path(folder_paths.get_output_directory()) / FOLDER / "unfinished"
