"""Draw Prompt List: a CSV of prompts in, a folder of pictures out, as evaluators read them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io, ui

from ...erase_engine.backends.comfy.model import supported_family
from ...erase_engine.contact_sheet import image_of
from ...erase_engine.flow import require_finite
from ...erase_engine.prompt_list import (
    Picture,
    pictures_of,
    read_cases,
    save_picture,
    still_to_draw,
)
from ...erase_engine.validation import UNREADABLE, shortened
from ..attention.preview import GUIDANCE
from ..host.checked import checked
from ..host.encode import encoder_for, ordinary_tensors
from ..host.names import Names
from ..host.origin import origin_of
from ..host.progress import sampling_progress
from ..host.schema import CATEGORY, node_schema
from ..host.vae import decode, require_vae_of
from ..host.widgets import checked_resolution, lines, resolution, text
from .drawing import Sampling

NAMES = Names("folder name", "ComfyUI's output folder", "'erased' or 'stars/erased'")
FOLDER = f"{CATEGORY}/pictures"  # where no name is given
ENCODED_AT_ONCE = 16  # pictures whose prompts are held at a time
MOST_SHOWN = 100  # pictures on the node
STRONGEST = 100.0  # guidance


class DrawPromptList(io.ComfyNode):
    """The pictures of a list of prompts, in files that are called as evaluators expect."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="EraseAnythingPromptList",
            display_name="Draw Prompt List",
            search_aliases=["csv", "batch of prompts", "benchmark", "evaluate erasure"],
            description="Draws every prompt of a CSV into a folder, as published evaluators of "
            "erasures read it. What is there is left out, so that a stopped run goes on.",
            inputs=_inputs(),
            is_output_node=True,
            outputs=[io.String.Output("folder", tooltip="Where the pictures are.")],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> Any:
        """Anew where a picture is missing, or where the list's file is another."""
        try:
            wanted = _wanted(
                **{name: inputs[name] for name in ("prompts", "pictures", "folder_name")}
            )
        except UNREADABLE:  # a widget that another node gives is not known yet
            return ""
        if not all(one.path.exists() for one in wanted):
            return float("nan")  # a new one is never equal to the last
        return [(one.prompt, one.seed, str(one.path)) for one in wanted]

    @classmethod
    @checked
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any,
        prompts: str,
        folder_name: str,
        pictures: int,
        steps: int,
        guidance: float,
        resolution: int,
    ) -> io.NodeOutput:
        supported_family(model)
        require_vae_of(model, vae)
        sampling = Sampling(steps, checked_resolution(resolution), guidance)
        wanted = _wanted(prompts, pictures, folder_name)
        drawing = _Drawing(model, clip, vae, sampling)
        missing = still_to_draw(wanted, drawing.settings)
        drawing.draw(missing)
        shown, there = _shown(wanted), len(wanted) - len(missing)
        inside = shown["images"][0]["subfolder"]
        said = f"{len(missing)} pictures drawn, {there} were there, in the output folder: {inside}"
        return io.NodeOutput(str(wanted[0].path.parent), ui={**shown, "text": (said,)})


@dataclass(frozen=True)
class _Drawing:
    """What draws, and how."""

    model: Any
    clip: Any
    vae: Any
    sampling: Sampling

    @property
    def settings(self) -> dict[str, Any]:
        """What every picture depends on, for its record."""
        return {"model": origin_of(("model", "clip", "vae")), **asdict(self.sampling)}

    def draw(self, missing: Sequence[Picture]) -> None:
        """Each picture is a file before the next one is begun."""
        encoder, settings = encoder_for(self.clip, self.model), self.settings
        on_step = sampling_progress(len(missing) * self.sampling.steps)
        for start in range(0, len(missing), ENCODED_AT_ONCE):
            some = missing[start : start + ENCODED_AT_ONCE]
            with ordinary_tensors():
                cond = encoder.encode([*(one.prompt for one in some), ""])
            *rows, unconditional = cond.prompts
            for picture, row in zip(some, rows, strict=True):
                given = [(row, picture.seed)]
                [latent] = self.sampling.latents(self.model, given, unconditional, on_step)
                [pixels] = require_finite("a picture", decode(self.model, self.vae, latent).float())
                save_picture(picture, image_of(pixels), settings)


def _wanted(prompts: str, pictures: int, folder_name: str) -> list[Picture]:
    """All pictures of the list; ValueError for a list or a name that won't do."""
    root = Path(folder_paths.get_output_directory()).absolute()
    folder = NAMES.path(root, folder_name.strip() or FOLDER)
    if folder.exists() and not folder.is_dir():
        raise ValueError(
            f"Got the folder name '{shortened(folder_name)}', which is a file's, expected a "
            "folder's. Choose another name."
        )
    return pictures_of(read_cases(_csv(prompts)), folder, pictures)


def _csv(prompts: str) -> str:
    """The widget's text, or that of the file in ComfyUI's input folder that it names."""
    name = prompts.strip()
    if not name.endswith(".csv") or "\n" in name:
        return prompts
    root = Path(folder_paths.get_input_directory()).resolve()
    try:
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise ValueError("it lies outside")
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise ValueError(
            f"Got the prompt list '{shortened(name)}', which can't be read from ComfyUI's input "
            f"folder ({shortened(str(error))}), expected a CSV in UTF-8 there. Correct the name, "
            "or write the list itself."
        ) from error


def _shown(wanted: Sequence[Picture]) -> dict[str, Any]:
    """The first pictures, for the page."""
    root = Path(folder_paths.get_output_directory()).absolute()
    return ui.SavedImages(
        [
            ui.SavedResult(
                one.path.name,
                one.path.parent.relative_to(root).as_posix(),
                io.FolderType.output,
            )
            for one in wanted[:MOST_SHOWN]
        ]
    ).as_dict()


def _inputs() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="The model, with or without an erasure."),
        io.Clip.Input("clip", tooltip="The text encoders that belong to it."),
        io.Vae.Input("vae", tooltip="Makes pictures of latents."),
        lines(
            "prompts",
            "A CSV whose first line names its columns: prompt, and case_number and "
            "evaluation_seed where wanted. Or the name of a .csv file in ComfyUI's input folder.",
        ),
        text(
            "folder_name",
            "Folder inside ComfyUI's output folder; without a name EraseAnything/pictures.",
        ),
        io.Int.Input(
            "pictures",
            default=1,
            min=1,
            max=1000,
            tooltip="Pictures of each prompt: from its seed, seed + 1, and so on.",
        ),
        io.Int.Input("steps", default=20, min=1, max=200, tooltip="Sampling steps."),
        io.Float.Input(
            "guidance",
            default=GUIDANCE,
            min=0.0,
            max=STRONGEST,
            step=0.1,
            tooltip="Guidance of models that have it as an input, cfg of those that are sampled "
            "with it; others don't read it.",
        ),
        resolution("Width and height of the pictures, in pixels; 128 for the tiny models."),
    ]
