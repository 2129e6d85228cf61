"""Safetensors files, opened behind headers that are looked at first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..validation import once, shortened

MOST_BYTES = 16 * 2**30  # of a file: LoRAs of the largest models and ranks are a third of it
MOST_HEADER = 32 * 2**20  # bytes: of a larger one, reading takes minutes and gigabytes


@contextmanager
def opened(path: str | Path) -> Iterator[Any]:
    """The file behind its header, which the library checks against the file's size.

    Raises ValueError where it is no safetensors file, or one that no LoRA can be.
    """
    path = Path(path)
    _check_sizes(path)
    try:
        with safe_open(path, "pt") as file:
            _check_each_once(path)
            yield file
    except SafetensorError as error:
        raise ValueError(
            f"Got {called(path)}, which is cut off or not safetensors "
            f"({shortened(str(error), 200)}), expected a LoRA file. Copy or train it again."
        ) from error
    except (RuntimeError, MemoryError) as error:
        raise ValueError(
            f"Got {called(path)}, which this machine can't read ({shortened(str(error), 200)}), "
            "expected a LoRA file that fits its memory. Free some, or choose another file."
        ) from error


def called(path: str | Path) -> str:
    """A file's name for a message."""
    return shortened(Path(path).name)


def _check_sizes(path: Path) -> None:
    """Raises ValueError for a file or a header that is larger than any LoRA's."""
    whole = path.stat().st_size
    if whole > MOST_BYTES:
        raise ValueError(
            f"Got {called(path)} of {whole:,} bytes, expected at most {MOST_BYTES:,}. Choose a "
            "LoRA file."
        )
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
    if MOST_HEADER < size < whole:  # else it is cut off
        raise ValueError(
            f"Got {called(path)} with a header of {size:,} bytes, expected at most "
            f"{MOST_HEADER:,}. Choose a LoRA file."
        )


def _check_each_once(path: Path) -> None:
    """Raises ValueError for a name that stands twice in a header: the library takes the last."""
    with path.open("rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    try:
        json.loads(header, object_pairs_hook=once)
    except ValueError as error:
        raise ValueError(
            f"Got {called(path)} with a header that is not one ({error}), expected each name once. "
            "Train or download it again."
        ) from error
