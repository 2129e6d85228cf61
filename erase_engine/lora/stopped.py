"""The LoRAs that a training leaves behind each time it is stopped, named by their step."""

from __future__ import annotations

import glob
from contextlib import suppress
from pathlib import Path

from .file import read_metadata

SAME = ("plan", "config", "base_model")  # in the records of one training's files


def stopped_name(name: str, step: int) -> str:
    """What a training that would be `name` is called when it is stopped at a step."""
    return f"{name}_step{step}"


def remove_stopped(stem: Path, finished: Path) -> None:
    """Removes those of the very training that has made `finished`.

    What was made of another plan or with other settings stays, and so does what was renamed.
    """
    record = read_metadata(finished)
    for path in stem.parent.glob(f"{glob.escape(stem.name)}_step*.safetensors"):
        with suppress(ValueError, OSError):  # another's file, or one that can't be removed
            found = read_metadata(path)
            if all(found.get(key) == record.get(key) for key in SAME):
                path.unlink()
