"""LoRA files: their names inside models/loras, and what is written into them."""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfyui_version
import folder_paths
from PIL import Image
from torch import Tensor

from ...erase_engine.atomic_file import atomic_file
from ...erase_engine.concepts.plan import ConceptPlan
from ...erase_engine.config import EraseConfig
from ...erase_engine.lora.file import save_lora
from ...erase_engine.lora.metadata import erasure_metadata
from ...erase_engine.training.loop import Erasure
from ...erase_engine.validation import told
from ..host.names import RESERVED, Names

FOLDER = "EraseAnything"  # in models/loras, where no name is given
HOST = {"comfyui": comfyui_version.__version__}  # for the record of how a file was made
NAMES = Names("file name", "models/loras", "'star' or 'shapes/star'")


def lora_file_path(name: object) -> Path:
    """The file behind an entry of the combo, as this system or Windows writes it.

    Raises ValueError where there is none.
    """
    names = (name, name.replace("\\", "/")) if isinstance(name, str) else ()
    found = next(filter(None, (folder_paths.get_full_path("loras", each) for each in names)), None)
    if found is None:
        raise ValueError(
            f"Got the file {told(name)}, which is not in models/loras, expected one that is. "
            "Choose one from the list."
        )
    return Path(found)


def lora_stem(name: str, concept: str) -> Path:
    """The file_name widget as a path in models/loras, without number and extension.

    Raises ValueError where it can't be one: see `Names.path`.
    """
    called = re.sub(r"[^\w]+", "_", concept).strip("_")[:40] or "concept"
    called = f"{called}_" if re.match(RESERVED, called) else called
    name = name.strip().removesuffix(".safetensors") or f"{FOLDER}/{called}"
    return NAMES.path(_root(), name)


def lora_name(path: Path) -> str:
    """A file as the hosts' lists of LoRAs call it: its path inside models/loras."""
    return path.relative_to(_root()).as_posix()


def save_numbered(stem: Path, state: Mapping[str, Tensor], record: Mapping[str, Any]) -> Path:
    """Writes a LoRA under the stem with the next free number, whatever other processes write."""
    number = 1
    while True:
        path = stem.with_name(f"{stem.name}_{number:05}.safetensors")
        try:
            if not path.exists():
                return save_lora(path, state, record)
        except FileExistsError:
            if not path.exists():  # what is in the way is no LoRA of this name
                raise
        number += 1


def save_erasure(
    stem: Path, erasure: Erasure, *, plan: ConceptPlan, config: EraseConfig, base_model: str
) -> Path:
    """Writes the LoRA under the next free number, with all that it takes to train it again."""
    record = erasure_metadata(erasure.figures, plan, config, base_model=base_model, host=HOST)
    return save_numbered(stem, erasure.state, record)


def cover_of(path: Path) -> Path:
    """Where ComfyUI and managers of LoRAs look for a file's picture."""
    return path.with_suffix(".preview.png")


def save_cover(path: Path, picture: Image.Image) -> None:
    """Puts a picture beside a LoRA, in the place of one whose LoRA is gone.

    Where that can't be done the LoRA is as good without.
    """
    try:
        with atomic_file(cover_of(path)) as draft:
            picture.save(draft, "PNG")
    except OSError:
        logging.getLogger(__name__).warning("No picture beside %s.", path, exc_info=True)


def _root() -> Path:
    return Path(folder_paths.get_folder_paths("loras")[0]).absolute()
