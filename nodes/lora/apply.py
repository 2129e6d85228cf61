"""Apply Erasure LoRA: a file or a freshly trained LoRA onto a MODEL."""

from __future__ import annotations

import json
from typing import Any

from comfy_api.latest import io, ui

from ...erase_engine.lora.file import lora_state, prefixed
from ...erase_engine.lora.metadata import figures_in_words
from ...erase_engine.validation import UNREADABLE, shortened
from ..host.checked import checked
from ..host.patch_lora import apply_lora
from ..host.schema import node_schema
from ..host.widgets import advanced
from .schedule import apply_during
from .slots import (
    CONNECT,
    EMPTY,
    Part,
    RecordedLora,
    files_fault,
    fingerprint,
    parts_of,
    slot,
)

SLOTS = ("", "_2", "_3", "_4")
STRENGTH = "1 is what was trained, 0 leaves the model as it was."


class ApplyErasure(io.ComfyNode):
    """The model with the concepts of up to four LoRAs erased, each as far as its strength says."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="EraseAnythingApply",
            display_name="Apply Erasure LoRA",
            search_aliases=["unlearn", "remove concept", "load erasure", "strength"],
            description="Makes a model unable to draw what the LoRA erases. Says for which concept "
            "it was trained, and whether it is on.",
            inputs=[
                io.Model.Input("model", tooltip="The model that the LoRA was trained for."),
                *slot("", STRENGTH, empty=CONNECT),
                io.LoraModel.Input(
                    "lora",
                    optional=True,
                    tooltip="A freshly trained LoRA; used instead of the first file.",
                ),
                _percent("start", 0.0, "The share of sampling after which the erasure is on."),
                _percent("end", 1.0, "The share of sampling up to which the erasure is on."),
                *(
                    advanced(widget)
                    for suffix in SLOTS[1:]
                    for widget in slot(suffix, STRENGTH, optional=True)
                ),
            ],
            outputs=[io.Model.Output("MODEL", tooltip="The model with the erasure on.")],
        )

    @classmethod
    def validate_inputs(
        cls, file: Any = CONNECT, file_2: Any = EMPTY, file_3: Any = EMPTY, file_4: Any = EMPTY
    ) -> bool | str:
        """True, or what the page says of a file before anything runs."""
        return files_fault((file, file_2, file_3, file_4)) or True

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> Any:
        """Anew when a file has changed."""
        return fingerprint(inputs, SLOTS)

    @classmethod
    @checked
    def execute(
        cls,
        model: Any,
        lora: dict[str, Any] | None = None,
        start: float = 0.0,
        end: float = 1.0,
        **slots: Any,
    ) -> io.NodeOutput:
        if not start < end:
            raise ValueError(
                f"Got start {start:g} and end {end:g}, expected start below end. Set 0 and 1 to "
                "have the erasure on all the time."
            )
        cards = []
        for part in _parts(lora, slots):
            model, card = _applied(model, part, start, end)
            cards.append(card)
        if (start, end) != (0, 1):
            cards.append(f"On from {start:.0%} to {end:.0%} of sampling.")
        return io.NodeOutput(model, ui=ui.PreviewText("\n".join(cards)))


def _percent(name: str, default: float, tooltip: str) -> Any:
    """0 to 1 in the steps of core's own start and end percent."""
    return advanced(
        io.Float.Input(
            name, default=default, min=0.0, max=1.0, step=0.001, optional=True, tooltip=tooltip
        )
    )


def _parts(lora: dict[str, Any] | None, slots: dict[str, Any]) -> list[Part]:
    """What is to be applied: the connected LoRA or the first file, then the other files."""
    parts = parts_of(slots, SLOTS if lora is None else SLOTS[1:])
    if lora is not None:
        record = lora.record if isinstance(lora, RecordedLora) else {}
        state = lora_state("the LoRA", lora)
        parts.insert(0, Part("the LoRA", slots["strength"], state, record))
    if not parts:
        raise ValueError(
            "Got no LoRA, expected a file or a connected one. "
            "Choose a file, or connect LORA_MODEL of Erase Concept."
        )
    return parts


def _applied(model: Any, part: Part, start: float, end: float) -> tuple[Any, str]:
    """A clone of the MODEL with the LoRA on, and what the node says of it."""
    state = prefixed(part.state)
    erased, layers = apply_lora(model, state, part.strength, name=part.name, metadata=part.record)
    if (start, end) != (0, 1):
        erased = apply_during(model, part.state, part.strength, start=start, end=end)
    return erased, _card(part, layers)


def _card(part: Part, layers: int) -> str:
    """What the node shows: concept, strength, and what the file's record says of its training."""
    record = part.record
    concept = f"'{shortened(record['concept'])}'" if record.get("concept") else "its concept"
    if part.strength > 0:
        acts = f"{part.name} erases {concept} at strength {part.strength:g}"
    elif part.strength:
        backwards = f"{part.name} acts backwards at strength {part.strength:g}"
        acts = f"{backwards}, which erases nothing of {concept}"
    else:
        acts = f"{part.name} is off: at strength 0 nothing of {concept} is erased"
    rows = [f"{acts}; all of its {layers} layers fit this model.", *part.notes]
    if record.get("base_model"):
        rows.append(f"base model: {shortened(record['base_model'], 200)}")
    if "figures" in record:
        try:
            figures = figures_in_words(json.loads(record["figures"]))
        except UNREADABLE:
            figures = record["figures"]  # of another make: as they stand
        rows.append(f"training: {shortened(figures, 200)}")
    return "\n".join(rows)
