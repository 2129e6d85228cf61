"""Apply Erasure LoRA: a file or a freshly trained LoRA onto a MODEL."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ..erase_engine.lora_file import PREFIX, load_lora, read_metadata
from .host import CATEGORY, apply_lora, lora_file_path

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
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=-10.0,
                    max=10.0,
                    step=0.05,
                    tooltip="1 is what was trained, 0 leaves the model as it was.",
                ),
                io.LoraModel.Input(
                    "lora",
                    optional=True,
                    tooltip="A freshly trained LoRA; used instead of the file.",
                ),
            ],
            outputs=[io.Model.Output("MODEL")],
        )

    @classmethod
    def fingerprint_inputs(cls, file: str, **inputs: Any) -> Any:
        if file == NO_FILE:
            return ""
        status = lora_file_path(file).stat()
        return f"{file} {status.st_size} {status.st_mtime_ns}"

    @classmethod
    def execute(
        cls, model: Any, file: str, strength: float, lora: dict[str, Any] | None = None
    ) -> io.NodeOutput:
        if lora is None and file == NO_FILE:
            raise ValueError(
                "Got no LoRA, expected a file or a connected one. "
                "Choose a file, or connect LORA_MODEL of Erase Concept."
            )
        name, state, metadata = ("The LoRA", lora, {}) if lora is not None else _read(file)
        erased, layers = apply_lora(model, state, strength, name=name, metadata=metadata)
        return io.NodeOutput(erased, ui=ui.PreviewText(_card(name, metadata, layers)))


def _read(file: str) -> tuple[str, dict[str, Any], dict[str, str]]:
    """Name, state with file keys, metadata."""
    path: Path = lora_file_path(file)
    state, _ = load_lora(path)
    return file, {PREFIX + key: tensor for key, tensor in state.items()}, read_metadata(path)


def _card(name: str, metadata: dict[str, str], layers: int) -> str:
    """What the node shows: concept, base model, layers."""
    concept = metadata.get("concept")
    about = f"erases '{concept}'" if concept else "erases what it was trained for"
    return f"{name} {about}; {layers} layers took it."
