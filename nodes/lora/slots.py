"""Slots of a node: a LoRA file and its strength, over and over."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import folder_paths
from comfy_api.latest import io
from torch import Tensor

from ...erase_engine.concepts.plan import ConceptPlan
from ...erase_engine.lora.dialects import UP
from ...erase_engine.lora.file import prefixed, read_lora, read_metadata
from ...erase_engine.lora.metadata import plans_in
from ..host.widgets import lora_strength
from .files import lora_file_path

EMPTY = "(none)"
CONNECT = "(connect a LoRA)"  # of a slot whose place a connected LoRA may take

NOTHING = (EMPTY, CONNECT)


class RecordedLora(dict[str, Tensor]):
    """A LORA_MODEL that says how it was made; to core's nodes it is the dict that they expect."""

    record: Mapping[str, str] = MappingProxyType({})  # the file's metadata

    @classmethod
    def saved(cls, path: Path, state: Mapping[str, Tensor]) -> RecordedLora:
        """Of canonical keys, which are in the file as well."""
        lora = cls(prefixed(state))
        lora.record = read_metadata(path)
        return lora


@dataclass(frozen=True)
class Part:
    """One LoRA of several."""

    name: str
    strength: float
    state: Mapping[str, Tensor]  # by canonical keys
    record: Mapping[str, str]  # the file's metadata
    left_out: int = 0  # tensors of text encoders in the file

    @property
    def notes(self) -> list[str]:
        """What a person has to know of the file."""
        idle = not any(each.any() for key, each in self.state.items() if key.endswith(UP))
        encoders = f"{self.left_out} tensors for text encoders in it were left out."
        nothing = "All of its lora_B are zero: it changes nothing."
        return [encoders] * bool(self.left_out) + [nothing] * idle

    @property
    def plans(self) -> tuple[ConceptPlan, ...]:
        """How it was trained; ValueError where its file does not say."""
        plans = plans_in(self.record)
        if not plans:
            raise ValueError(
                f"Got {self.name} without a record of its prompts, expected a LoRA that Erase "
                "Concept saved. Choose method sum, which needs none."
            )
        return plans


def slot(suffix: str, tooltip: str, *, empty: str = EMPTY, optional: bool = False) -> list[Any]:
    """The widgets `file<suffix>` and `strength<suffix>`."""
    file = io.Combo.Input(
        f"file{suffix}",
        options=[empty, *folder_paths.get_filename_list("loras")],
        default=empty,
        optional=optional,
        tooltip="A file in models/loras that Erase Concept saved.",
    )
    return [file, lora_strength(f"strength{suffix}", tooltip, optional=optional)]


def parts_of(widgets: Mapping[str, Any], suffixes: Iterable[str]) -> list[Part]:
    """What the chosen files hold; a slot that a workflow leaves out is empty."""
    parts = []
    for suffix, name in _chosen(widgets, suffixes):
        strength = widgets.get(f"strength{suffix}", 1.0)
        found = read_lora(lora_file_path(name))
        parts.append(Part(name, strength, found.state, found.record, found.left_out))
    return parts


def files_fault(names: Iterable[object]) -> str:
    """What is wrong with chosen files, for the page; "" for nothing.

    The host's own check would only know a list's entries as this system writes them. Of a linked
    input it says None: what comes is checked when the node runs.
    """
    try:
        for name in names:
            if name is not None and name not in NOTHING:
                lora_file_path(name)
    except ValueError as error:
        return str(error)
    return ""


def fingerprint(widgets: Mapping[str, Any], suffixes: Iterable[str]) -> str:
    """Another one when a chosen file has changed."""
    stats = [(name, lora_file_path(name).stat()) for _, name in _chosen(widgets, suffixes)]
    return str([(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats])


def _chosen(widgets: Mapping[str, Any], suffixes: Iterable[str]) -> list[tuple[str, Any]]:
    slots = [(suffix, widgets.get(f"file{suffix}", EMPTY)) for suffix in suffixes]
    return [(suffix, name) for suffix, name in slots if name not in NOTHING]
