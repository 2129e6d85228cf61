"""What a stopped training leaves: the LoRA of its last step, and a folder that it goes on from."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import folder_paths

from ..erase_engine.checkpoint import Checkpoint
from ..erase_engine.train import Erasure
from .files import FOLDER, lora_name
from .live import Live


def checkpoint_for(stem: Path, *, resume: bool) -> Checkpoint:
    """In ComfyUI's output folder, under the LoRA's name: one for each name, the last one stays."""
    name = Path(lora_name(stem))
    inside = name.relative_to(FOLDER) if name.parts[0] == FOLDER else name
    folder = Path(folder_paths.get_output_directory()) / FOLDER / "unfinished" / inside
    return Checkpoint(folder, resume=resume)


@contextmanager
def kept_when_stopped(
    checkpoint: Checkpoint, live: Live, stem: Path, save: Callable[[Path, Erasure], Path]
) -> Iterator[None]:
    """Whatever stops the training inside, the LoRA so far is saved and the page is told.

    It goes beside the LoRAs, with its step in its name: `star_step60_00001.safetensors`.
    """
    try:
        yield
    except BaseException:  # cancelling is no Exception on newer hosts
        if done := checkpoint.latest:
            so_far = Erasure(done.lora, done.history, done.forwards)
            path = save(stem.with_name(f"{stem.name}_step{done.step}"), so_far)
            live.saved = lora_name(path)
        raise
