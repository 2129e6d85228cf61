"""Small pictures before and during a training: of a prompt that names the concept, and of one not.

Beside the first stands what the model drew for the replacement, from the same noise.

They use no random state but their own, so a training is the same with and without them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ...erase_engine.concepts.plan import ConceptPlan
from ...erase_engine.config import EraseConfig
from ...erase_engine.contact_sheet import Row, contact_sheet, image_of
from ...erase_engine.interfaces import Conditioning, FlowModel, LatentGrid, Prompt
from ...erase_engine.sampling import sampled, start_noise
from ...erase_engine.training.encoded_prompts import EncodedPrompts

EULER_STEPS = 10  # enough to recognise what is there
LONGEST_SIDE = 256  # pixels as sent; the node shows them smaller
JPEG_QUALITY = 85


@dataclass(frozen=True)
class Scene:
    """The prompts to draw, and the noise they always start from."""

    prompts: dict[str, str]  # {"concept": ..., "keep": ..., "replacement": ...}
    cond: Conditioning  # one row for each
    unconditional: Prompt
    noise: Tensor  # (3, C, h, w); the replacement's is the concept's

    @classmethod
    def of(
        cls, plan: ConceptPlan, encoded: EncodedPrompts, config: EraseConfig, latents: LatentGrid
    ) -> Scene:
        """The first sentence to keep, and the first that names the concept as it was written, once.

        Some name it in other words, misspelt, or again and again.
        """

        def plain(row: int) -> tuple[bool, int]:
            pair = plan.pairs[row]
            return pair.word != plan.concept, pair.concept_prompt.count(plan.concept)

        row = min(range(len(plan.pairs)), key=plain)
        pair = plan.pairs[row]
        prompts = {"concept": pair.concept_prompt, "keep": plan.keep[0]}
        prompts["replacement"] = pair.anchor_prompt
        cond = [encoded.concept.take([row]), encoded.keep.take([0]), encoded.anchor.take([row])]
        noise = start_noise(2, latents.shape(config.height, config.width), seed=config.seed)
        return cls(prompts, Conditioning.cat(cond), encoded.unconditional, noise[[0, 1, 0]])


class Previews:
    """Draws the scene as it was before the training, and again whenever asked."""

    def __init__(
        self, backend: FlowModel, scene: Scene, decode: Callable[[Tensor], Tensor]
    ) -> None:
        self._backend, self._scene, self._decode = backend, scene, decode
        self._before = self._now = self._draw([0, 1])
        prompt, picture = scene.prompts["replacement"], data_url(self._draw([2])[0])
        self._beside = {"concept": {"replacement": {"prompt": prompt, "picture": picture}}}

    def compare(self) -> list[dict[str, Any]]:
        """For each prompt the pictures before and now, and how far they differ, as JSON.

        The concept's has "replacement", too: what the model drew for it before the training.
        """
        self._now = self._draw([0, 1])
        return [
            {
                "role": role,
                "prompt": self._scene.prompts[role],
                "before": data_url(before),
                "after": data_url(after),
                "change": round((after - before).abs().mean().item(), 4),  # of the whole range
                **self._beside.get(role, {}),
            }
            for role, before, after in zip(
                ("concept", "keep"), self._before, self._now, strict=True
            )
        ]

    def cover(self) -> Image.Image:
        """The concept's prompt before the training and when it was last drawn, side by side."""
        cells = [image_of(pictures[0]) for pictures in (self._before, self._now)]
        row = Row(cells, ("before", "with the LoRA"))
        return contact_sheet([row], title=self._scene.prompts["concept"], cell=LONGEST_SIDE)

    @torch.no_grad()
    def _draw(self, rows: list[int]) -> Tensor:
        """(N, h, w, 3) in 0..1"""
        scene = self._scene
        cond, noise = scene.cond.take(rows), scene.noise[rows]
        options = {"steps": EULER_STEPS, "unconditional": scene.unconditional}
        latents = sampled(self._backend, cond, noise, **options)
        # A VAE that overflows must not end a training: its picture is black.
        return self._decode(latents).float().cpu().nan_to_num(0.0).clamp(0, 1)


def data_url(picture: Tensor) -> str:
    """A small JPEG of (h, w, 3) in 0..1, in the form an <img> takes."""
    image = image_of(picture)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
