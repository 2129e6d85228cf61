"""Apply Erasure LoRA: a file or a freshly trained LoRA onto a MODEL."""

from __future__ import annotations

import json
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ..erase_engine.lora_file import PREFIX, load_lora
from ..erase_engine.record import figures_in_words
from ..erase_engine.sentence import shortened
from .files import lora_file_path
from .host import CATEGORY, apply_lora
from .sampling_range import apply_during
from .widgets import advanced, checked_strength, lora_strength

NO_FILE = "(connect a LoRA)"


class ApplyErasure(io.ComfyNode):
    """The model with the concept erased, as far as `strength` says."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EraseAnythingApply",
            display_name="Apply Erasure LoRA",
            category=CATEGORY,
            description="Makes a model unable to draw what the LoRA erases. Says for which concept "
            "it was trained and how many layers took it.",
            inputs=[
                io.Model.Input("model", tooltip="The model that the LoRA was trained for."),
                io.Combo.Input(
                    "file",
                    options=[NO_FILE, *folder_paths.get_filename_list("loras")],
                    default=NO_FILE,
                    tooltip="A file in models/loras that Erase Concept saved.",
                ),
                lora_strength("strength", "1 is what was trained, 0 leaves the model as it was."),
                io.LoraModel.Input(
                    "lora",
                    optional=True,
                    tooltip="A freshly trained LoRA; used instead of the file.",
                ),
                _share("start", 0.0, "The share of sampling after which the erasure is on."),
                _share("end", 1.0, "The share of sampling up to which the erasure is on."),
            ],
            outputs=[io.Model.Output("MODEL", tooltip="The model with the erasure on.")],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **inputs: Any) -> Any:
        if file == NO_FILE:
            return ""
        status = lora_file_path(file).stat()
        return f"{file} {status.st_size} {status.st_mtime_ns}"

    @classmethod
    def execute(
        cls,
        model: Any,
        file: str,
        strength: float,
        lora: dict[str, Any] | None = None,
        start: float = 0.0,
        end: float = 1.0,
    ) -> io.NodeOutput:
        checked_strength(strength)
        if not start < end:
            raise ValueError(
                f"Got start {start:g} and end {end:g}, expected start below end. Set 0 and 1 to "
                "have the erasure on all the time."
            )
        if lora is None and file == NO_FILE:
            raise ValueError(
                "Got no LoRA, expected a file or a connected one. "
                "Choose a file, or connect LORA_MODEL of Erase Concept."
            )
        name, state, metadata = (file, *_read(file)) if lora is None else ("the LoRA", lora, {})
        erased, layers = apply_lora(model, state, strength, name=name, metadata=metadata)
        card = _card(name, metadata, layers)
        if (start, end) != (0, 1):
            erased = apply_during(model, state, strength, start=start, end=end)
            card += f"\nOn from {start:.0%} to {end:.0%} of sampling."
        return io.NodeOutput(erased, ui=ui.PreviewText(card))


def _share(name: str, default: float, tooltip: str) -> Any:
    return advanced(
        io.Float.Input(
            name, default=default, min=0.0, max=1.0, step=0.01, optional=True, tooltip=tooltip
        )
    )


def _read(file: str) -> tuple[dict[str, Any], dict[str, str]]:
    """State with file keys, metadata."""
    state, metadata = load_lora(lora_file_path(file))
    return {PREFIX + key: tensor for key, tensor in state.items()}, metadata


def _card(name: str, metadata: dict[str, str], layers: int) -> str:
    """What the node shows: concept, layers, and what the file's record says of its training."""
    concept = metadata.get("concept")
    about = f"erases '{shortened(concept)}'" if concept else "erases what it was trained for"
    rows = [f"{name} {about}; {layers} layers took it."]
    if "base_model" in metadata:
        rows.append(f"base model: {shortened(metadata['base_model'], 200)}")
    if "figures" in metadata:
        rows.append(f"training: {shortened(_figures(metadata['figures']), 200)}")
    return "\n".join(rows)


def _figures(recorded: str) -> str:
    """In words; as it stands where it is none of ours."""
    try:
        return figures_in_words(json.loads(recorded))
    except (ValueError, KeyError, TypeError, RecursionError):
        return recorded
