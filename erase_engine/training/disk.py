"""Room on disks, looked at before a training starts."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile

from ..config import EraseConfig
from ..interfaces import LatentGrid
from ..memory import LORA_COPIES, MemoryEstimate, sampled_bytes
from ..validation import shortened

MEGABYTE = 2**20
PROBE = 4096  # bytes that are written to see whether a disk takes any
STATE_COPIES = 3  # of the adapters: themselves, and two moments of the optimizer


@dataclass(frozen=True)
class DiskNeed:
    """Bytes that a training writes."""

    lora: int
    checkpoint: int  # for going on after a stop

    @classmethod
    def of(cls, memory: MemoryEstimate, config: EraseConfig, latents: LatentGrid) -> DiskNeed:
        """Of a training that needs so much memory."""
        lora = memory.lora // LORA_COPIES
        sampled = sampled_bytes(config, latents) if config.steps else 0
        return cls(lora, sampled + STATE_COPIES * lora)


def fault_of_disk(folder: Path, needed: int) -> str:
    """Why so many bytes can't be written into a folder, which need not exist; "" if they can."""
    every = (folder, *folder.absolute().parents)
    there = next((each for each in every if os.path.exists(each)), None)  # no error for long names
    if there is None:
        return f"{folder} is on no disk that is there"
    try:
        free = shutil.disk_usage(there).free
        with TemporaryFile(dir=there, buffering=0) as probe:
            probe.write(bytes(min(needed, PROBE)))  # a full disk has 0 free, too
    except OSError as error:
        return f"{there} can't be written to ({error.strerror})"
    if free >= needed or not free:  # some disks of other machines don't say how much is free
        return ""
    return f"{there} has {free / MEGABYTE:.1f} MB free and {needed / MEGABYTE:.1f} MB are needed"


def check_disk(path: Path, needed: int) -> None:
    """ValueError where a file of so many bytes can't be written to `path`."""
    if fault := fault_of_disk(path.parent, needed):
        raise ValueError(
            f"Got no room for the LoRA {shortened(path.name)}: {fault}, expected a folder with "
            "room. Make some, or choose another name or folder."
        )
