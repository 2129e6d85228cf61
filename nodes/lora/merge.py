"""Merge Erasure LoRAs: several files into one."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io, ui
from torch import Tensor

from ...erase_engine.backends.comfy.model import ComfyFlowModel, supported_family
from ...erase_engine.lora.file import prefixed
from ...erase_engine.lora.merge import (
    State,
    check_same_sizes,
    in_whole_layers,
    layers_of,
    weighted_sum,
)
from ...erase_engine.lora.metadata import concept_of, merged_metadata
from ...erase_engine.training.disk import check_disk
from ...erase_engine.validation import check_choice
from ..host.checked import checked
from ..host.patch_lora import apply_lora
from ..host.schema import node_schema
from ..host.widgets import advanced, text
from .files import HOST, lora_name, lora_stem, save_numbered
from .fusion import fuse_parts
from .schedule import require_always_on
from .slots import EMPTY, Part, RecordedLora, files_fault, fingerprint, parts_of, slot
from .solution import solve_parts

SLOTS = tuple(f"_{number}" for number in range(1, 9))
SHOWN = 3  # of them; the others are folded away
METHODS = ("solve", "fuse", "sum", "bypass")
WITH_MODEL = {"fuse": fuse_parts, "solve": solve_parts}


class MergeErasures(io.ComfyNode):
    """One LoRA that erases what several erase."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        tooltip = "How much of it goes into the merged LoRA; 1 is what was trained."
        slots = [widget for suffix in SLOTS for widget in slot(suffix, tooltip)]
        return node_schema(
            node_id="EraseAnythingMerge",
            display_name="Merge Erasure LoRAs",
            search_aliases=["combine LoRAs", "fuse LoRAs", "several concepts"],
            description="Makes one LoRA of several that were trained apart, and saves it.",
            inputs=[
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default=METHODS[0],
                    tooltip="solve: a new LoRA for all of their concepts, by the recipe instant, "
                    "in seconds. fuse: each acts on its own concept's prompts only. Both need the "
                    "model and clip. sum: all act on everything, as when applied one after the "
                    "other. bypass: sum, or one file alone, in the form that core's Load LoRA "
                    "(Bypass) reads whole; needs the model.",
                ),
                text(
                    "file_name",
                    "The new LoRA's name in models/loras; empty: EraseAnything/<concepts>. "
                    "A number is added, nothing is overwritten.",
                ),
                *slots[: 2 * SHOWN],
                *(advanced(widget) for widget in slots[2 * SHOWN :]),
                io.Model.Input("model", optional=True, tooltip="What they were trained for."),
                io.Clip.Input("clip", optional=True, tooltip="The model's text encoders."),
            ],
            is_output_node=True,
            outputs=[
                io.LoraModel.Output("LORA_MODEL", tooltip="For Apply Erasure LoRA."),
                io.String.Output(
                    "report",
                    tooltip="What was merged, and where it was saved.",
                ),
            ],
        )

    @classmethod
    def validate_inputs(
        cls,
        file_1: Any = EMPTY,
        file_2: Any = EMPTY,
        file_3: Any = EMPTY,
        file_4: Any = EMPTY,
        file_5: Any = EMPTY,
        file_6: Any = EMPTY,
        file_7: Any = EMPTY,
        file_8: Any = EMPTY,
    ) -> bool | str:
        """True, or what the page says of a file before anything runs."""
        files = (file_1, file_2, file_3, file_4, file_5, file_6, file_7, file_8)
        return files_fault(files) or True

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> Any:
        """Anew when a file has changed."""
        return fingerprint(inputs, SLOTS)

    @classmethod
    @checked
    def execute(
        cls, method: str, file_name: str, model: Any = None, clip: Any = None, **slots: Any
    ) -> io.NodeOutput:
        parts = _parts(slots, least=1 if method == "bypass" else 2)
        _check(method, model, clip)
        strengths = [part.strength for part in parts]
        record = merged_metadata([p.record for p in parts], strengths, method=method, host=HOST)
        stem = lora_stem(file_name, record["concept"])
        check_disk(stem, sum(each.nbytes for part in parts for each in part.state.values()))
        lines = [
            line
            for p in parts
            for line in (f"{concept_of(p.record)}, strength {p.strength:g} ({p.name})", *p.notes)
        ]
        if method in WITH_MODEL:
            state, took = WITH_MODEL[method](parts, model, clip)
            lines.append(took)
        else:
            state = weighted_sum([part.state for part in parts], strengths)
        written = _in_whole_layers(state, parts, model) if method == "bypass" else state
        path = save_numbered(stem, written, record)
        report = "\n".join([f"Saved as {lora_name(path)}", *lines])
        return io.NodeOutput(RecordedLora.saved(path, state), report, ui=ui.PreviewText(report))


def _parts(slots: dict[str, Any], *, least: int) -> list[Part]:
    """What the chosen files hold; ValueError for too few, and for two models' sizes."""
    parts = parts_of(slots, SLOTS)
    if len(parts) < least:
        raise ValueError(
            f"Got {len(parts)} files to merge, expected at least {('one', 'two')[least - 1]}. "
            "Choose files under file_1 and file_2."
        )
    check_same_sizes({part.name: part.state for part in parts})
    return parts


def _in_whole_layers(state: State, parts: list[Part], model: Any) -> dict[str, Tensor]:
    """Core's bypass loaders drop what is for some rows of a Linear; ValueError for other models."""
    for part in parts:
        apply_lora(model, prefixed(part.state), 0, name=part.name, metadata=part.record)
    names = {module: name for name, module in model.model.named_modules()}
    return in_whole_layers(state, ComfyFlowModel(model).linear_slices(layers_of([state])), names)


def _check(method: str, model: Any, clip: Any) -> None:
    check_choice("method", method, METHODS)
    if method == "sum":
        return
    if method == "bypass" and model is None:
        raise ValueError(
            "Got method bypass without model, expected the one that the LoRA is for: its layers "
            "are written whole. Connect it, or choose method sum."
        )
    if method in WITH_MODEL and (model is None or clip is None):
        given = {"model": model, "clip": clip}
        missing = " and ".join(name for name, one in given.items() if one is None)
        raise ValueError(
            f"Got method {method} without {missing}, expected both: it looks at how the prompts "
            "enter the model. Connect them, or choose method sum."
        )
    supported_family(model)
    require_always_on(model)
