"""An erased model as eval-unlearn asks for it: its entry point `eraseanything`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from ...prompt_list import seed_after
from ...validation import check_fields
from ..place import Place
from .pipeline import DrawingOptions, PipelineFiles


class EraseAnythingTechnique:
    """A diffusers folder with an erasure's LoRA in it, that draws prompts.

    Args:
        model: the folder, with model_index.json.
        lora: the erasure's .safetensors file; the model as it is where it is None.
        steps: sampling steps, and `resolution`, `guidance`: the pipeline's own where not given.
        device: such as cuda:1; "" takes a GPU where there is one.
        dtype: bfloat16, float16 or float32; "" chooses by the device.
        erase_concept: what the report says was erased; nothing depends on it.

    Raises ValueError, before anything large is read, where files or numbers won't do.
    """

    def __init__(
        self,
        *,
        model: str,
        lora: str | None = None,
        device: str = "",
        dtype: str = "",
        erase_concept: str = "",
        **numbers: Any,
    ) -> None:
        self.erase_concept = erase_concept
        self._options = DrawingOptions(**check_fields(numbers, DrawingOptions))
        files = PipelineFiles(Path(model), Path(lora) if lora else None)
        place = Place.named(device, dtype)
        self._pipeline = files.load(place.device, place.dtype)

    def generate(
        self, prompts: Sequence[str], seed: int | None = None, **others: Any
    ) -> list[Image.Image]:
        """One picture of each prompt, from seed, seed + 1, and so on; 0 where none is given.

        `others` are the pipeline's own arguments.
        """
        first = seed or 0
        return [
            self._pipeline.draw(prompt, seed_after(first, place), self._options, **others)
            for place, prompt in enumerate(prompts)
        ]
