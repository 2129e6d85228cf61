"""Merge Erasure LoRAs: several files into one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import folder_paths
from comfy_api.latest import io, ui
from torch import Tensor

from ..erase_engine.checks import check_choice
from ..erase_engine.lora_file import PREFIX, load_lora, save_lora
from ..erase_engine.merge import fused_by_prompts, weighted_sum
from ..erase_engine.plan import ConceptPlan
from ..erase_engine.record import merged_record, plans_in
from .files import HOST, free_path, lora_file_path, lora_name, lora_stem
from .host import CATEGORY, encoder_for, ordinary_tensors, require_flux, training_session
from .widgets import advanced, checked_strength, lora_strength, text

FILES, FOLDED_FROM = 8, 3  # slots, and how many an artist sees at first
EMPTY = "(none)"  # of a slot
METHODS = ("fuse", "sum")
SIZE = (32, 32)  # latent pixels of the noise that text is looked at beside


class MergeErasures(io.ComfyNode):
    """One LoRA that erases what several erase."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EraseAnythingMerge",
            display_name="Merge Erasure LoRAs",
            category=CATEGORY,
            description="Makes one LoRA of several that were trained apart, and saves it.",
            inputs=[
                io.Combo.Input(
                    "method",
                    options=list(METHODS),
                    default=METHODS[0],
                    tooltip="fuse: each acts on its own concept's prompts only; needs the model "
                    "and clip. sum: all act on everything, as when applied one after the other.",
                ),
                text(
                    "file_name",
                    "The new LoRA's name in models/loras; empty: EraseAnything/<concepts>. "
                    "A number is added, nothing is overwritten.",
                ),
                *_slots(),
                io.Model.Input("model", optional=True, tooltip="What they were trained for."),
                io.Clip.Input("clip", optional=True, tooltip="The model's text encoders."),
            ],
            is_output_node=True,
            outputs=[
                io.LoraModel.Output("LORA_MODEL", tooltip="For Apply Erasure LoRA."),
                io.String.Output(
                    "report",
                    display_name="report",
                    tooltip="What was merged, and where it was saved.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> Any:
        """Anew when a file has changed."""
        names = [inputs.get(f"file_{slot}", EMPTY) for slot in range(1, FILES + 1)]
        stats = [lora_file_path(name).stat() for name in names if name != EMPTY]
        return str([(one.st_size, one.st_mtime_ns) for one in stats])

    @classmethod
    def execute(
        cls, method: str, file_name: str, model: Any = None, clip: Any = None, **slots: Any
    ) -> io.NodeOutput:
        parts = _parts(slots)
        _check(method, model, clip)
        strengths = [part.strength for part in parts]
        record = merged_record([p.record for p in parts], strengths, method=method, host=HOST)
        stem = lora_stem(file_name, record["concept"])
        states = [part.state for part in parts]
        state = weighted_sum(states, strengths) if method == "sum" else _fused(parts, model, clip)
        path = save_lora(free_path(stem), state, record)
        report = f"Saved as {lora_name(path)}\n" + "\n".join(part.describe() for part in parts)
        merged = {PREFIX + key: tensor for key, tensor in state.items()}
        return io.NodeOutput(merged, report, ui=ui.PreviewText(report))


@dataclass(frozen=True)
class Part:
    """One file that goes into the merged one."""

    name: str
    strength: float
    state: dict[str, Tensor]
    record: dict[str, str]

    def describe(self) -> str:
        return f"{self.record.get('concept', '?')}, strength {self.strength:g} ({self.name})"

    def plans(self) -> tuple[ConceptPlan, ...]:
        """How it was trained; ValueError where its file does not say."""
        plans = plans_in(self.record)
        if not plans:
            raise ValueError(
                f"Got {self.name} without a record of its prompts, expected a LoRA that Erase "
                "Concept saved. Choose method sum, which needs none."
            )
        return plans


def _slots() -> list[Any]:
    """A file and its strength, over and over; most of them folded away."""
    inputs: list[Any] = []
    for slot in range(1, FILES + 1):
        pair = [
            io.Combo.Input(
                f"file_{slot}",
                options=[EMPTY, *folder_paths.get_filename_list("loras")],
                default=EMPTY,
                tooltip="A file in models/loras that Erase Concept saved.",
            ),
            lora_strength(
                f"strength_{slot}",
                "How much of it goes into the merged LoRA; 1 is what was trained.",
            ),
        ]
        inputs += pair if slot <= FOLDED_FROM else map(advanced, pair)
    return inputs


def _parts(slots: dict[str, Any]) -> list[Part]:
    """What the chosen files hold; ValueError for fewer than two."""
    parts = []
    for slot in range(1, FILES + 1):
        name = slots.get(f"file_{slot}", EMPTY)
        if name != EMPTY:
            strength = checked_strength(slots[f"strength_{slot}"])
            state, record = load_lora(lora_file_path(name))
            parts.append(Part(name, strength, state, record))
    if len(parts) < 2:
        raise ValueError(
            f"Got {len(parts)} files to merge, expected at least two. "
            "Choose files under file_1 and file_2."
        )
    return parts


def _check(method: str, model: Any, clip: Any) -> None:
    check_choice("method", method, METHODS)
    if method == "sum":
        return
    if model is None or clip is None:
        given = {"model": model, "clip": clip}
        missing = " and ".join(name for name, one in given.items() if one is None)
        raise ValueError(
            f"Got method fuse without {missing}, expected both: it looks at how the prompts enter "
            "the model. Connect them, or choose method sum."
        )
    require_flux(model)


def _fused(parts: Sequence[Part], model: Any, clip: Any) -> dict[str, Tensor]:
    """The closed form, on each file's own prompts."""
    plans = [part.plans() for part in parts]
    with ordinary_tensors():
        encoder = encoder_for(clip)
        with training_session(model) as backend:
            return fused_by_prompts(
                [part.state for part in parts],
                [part.strength for part in parts],
                plans,
                backend=backend,
                encoder=encoder,
                latent_size=SIZE,
            )
