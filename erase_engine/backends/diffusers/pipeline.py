"""Pictures of prompts, by diffusers' own pipelines and a LoRA file."""

from __future__ import annotations

import inspect
import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import diffusers
import numpy
import torch
from diffusers.utils.import_utils import is_accelerate_available
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from ...config import check_side
from ...families.family import Family
from ...families.registry import family_of
from ...lora.dialects import DOWN
from ...lora.file import read_lora
from ...validation import UNREADABLE, check_number, shortened
from .files import quiet, readable

_DIFFUSERS: Any = diffusers  # it fills its names in when asked, unseen by type checkers
INDEX = "model_index.json"
ADAPTER = "erasure"


@dataclass(frozen=True)
class DrawingOptions:
    """How pictures are drawn; None leaves it to the pipeline."""

    steps: int | None = None
    resolution: int | None = None  # width and height in pixels
    guidance: float | None = None

    def __post_init__(self) -> None:
        if self.steps is not None:
            check_number("steps", self.steps, low=1, high=1000, whole=True)
        if self.guidance is not None:
            check_number("guidance", self.guidance, low=0, high=100)
        if self.resolution is not None:
            check_number("resolution", self.resolution, low=64, high=8192, whole=True)
            check_side("resolution", self.resolution)


@dataclass(frozen=True)
class PipelineFiles:
    """A whole diffusers folder, and the LoRA; known to be there before anything large is read.

    Raises ValueError where one is not there, or the model is of no known family.
    """

    model: Path
    lora: Path | None = None
    family: Family = field(init=False)
    layers: int = field(init=False, default=0)  # of the LoRA

    def __post_init__(self) -> None:
        index = self.model / INDEX
        if not os.path.isfile(index):  # which no name is too long for
            raise ValueError(
                f"Got the model {shortened(str(self.model), 200)}, expected a diffusers folder "
                f"with {INDEX} in it, which names all parts of the pipeline. Correct the path."
            )
        if self.lora is not None:
            if not os.path.isfile(self.lora):
                raise ValueError(
                    f"Got the LoRA {shortened(str(self.lora), 200)}, which is no file, expected a "
                    ".safetensors file. Correct the path."
                )
            object.__setattr__(self, "layers", _layers_of(self.lora))
        with readable(index):
            kind = str(json.loads(index.read_text(encoding="utf-8"))["transformer"][1])
        object.__setattr__(self, "family", family_of(kind, "diffusers"))

    def load(self, device: torch.device, dtype: torch.dtype) -> DrawingPipeline:
        """The pipeline on the device, with the LoRA in it."""
        with readable(self.model), quiet():
            pipe = _DIFFUSERS.DiffusionPipeline.from_pretrained(
                self.model, torch_dtype=dtype, local_files_only=True, use_safetensors=True
            )
        if self.lora is not None:
            _put_on(pipe, self.lora, self.layers)
        pipe.set_progress_bar_config(disable=True)
        if device.type == "cuda" and is_accelerate_available():
            pipe.enable_model_cpu_offload(device=device)  # one part at a time is there
        else:
            pipe.to(device)
        return DrawingPipeline(pipe, self.family)


@dataclass(frozen=True)
class DrawingPipeline:
    """A loaded pipeline of a family's model."""

    pipe: Any
    family: Family

    def draw(self, prompt: str, seed: int, options: DrawingOptions, **others: Any) -> Image.Image:
        """One picture; its noise is drawn on the CPU, so that all devices begin alike.

        Raises ValueError where the pipeline fails, and where the picture is not finite.
        """
        size = dict.fromkeys(("width", "height"), options.resolution)
        given = {"num_inference_steps": options.steps, **size, **self._guidance(options.guidance)}
        given = {name: value for name, value in given.items() if value is not None}
        generator = torch.Generator().manual_seed(seed)
        try:
            with numpy.errstate(invalid="raise"):  # NaN as a pixel's number
                return self.pipe(prompt=prompt, generator=generator, **(given | others)).images[0]
        except torch.cuda.OutOfMemoryError:
            raise
        except UNREADABLE as error:
            raise ValueError(
                f"Got no picture of '{shortened(prompt)}' from this model "
                f"({shortened(str(error))}), expected files that belong together, and finite "
                "numbers. Copy or download it again, or choose another --dtype: float16 overflows."
            ) from error

    def _guidance(self, scale: float | None) -> dict[str, Any]:
        """By the name that the pipeline has for it: an input of the net, or of two passes."""
        side = self.family.diffusers
        twice = side is not None and side.layout.cfg(self.pipe.transformer)
        if scale is None or not twice:
            return {"guidance_scale": scale}
        if "true_cfg_scale" not in inspect.signature(self.pipe.__call__).parameters:
            return {"guidance_scale": scale}
        return {"true_cfg_scale": scale, "negative_prompt": " "}  # without one there is no second


def _layers_of(lora: Path) -> int:
    """How many there are; ValueError, before the model is read, for what is no whole LoRA."""
    try:
        return sum(key.endswith(DOWN) for key in read_lora(lora).state)
    except ValueError as error:
        name = shortened(str(lora), 200)
        raise ValueError(f"Got the LoRA {name}, which the model does not take. {error}") from error


def _put_on(pipe: Any, lora: Path, layers: int) -> None:
    """Raises ValueError, naming the file, where the model does not take all of its layers."""
    try:
        pipe.load_lora_weights(load_file(lora), adapter_name=ADAPTER)
        parts = pipe.transformer.modules()
        found = sum(ADAPTER in getattr(part, "lora_A", {}) for part in parts)
        taken = found >= layers  # a layer of the file may be several of the model's
        why = f"{layers - found} of its {layers} layers are not the model's"
    except torch.cuda.OutOfMemoryError:
        raise
    except (*UNREADABLE, SafetensorError) as error:
        taken, why = False, " ".join(str(error).split())
    if not taken:
        raise ValueError(
            f"Got the LoRA {shortened(str(lora), 200)}, which the model does not take "
            f"({shortened(why, 200)}), expected one made for it. Choose another file or model."
        )
