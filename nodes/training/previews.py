"""Small pictures before and during a training: of a prompt that names the concept, and of one not.

They use no random state but their own, so a training is the same with and without them.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...erase_engine.concepts.plan import ConceptPlan
from ...erase_engine.config import EraseConfig
from ...erase_engine.contact_sheet import image_of
from ...erase_engine.interfaces import Conditioning, FlowModel
from ...erase_engine.sampling import sampled, start_noise
from ...erase_engine.training.encoded_prompts import EncodedPrompts

EULER_STEPS = 10  # enough to recognise what is there
LONGEST_SIDE = 256  # pixels as sent; the node shows them smaller
JPEG_QUALITY = 85


@dataclass(frozen=True)
class Scene:
    """The prompts to draw, and the noise they always start from."""

    prompts: dict[str, str]  # {"concept": ..., "keep": ...}
    cond: Conditioning  # one row for each
    noise: Tensor  # (2, C, h, w)

    @classmethod
    def of(
        cls, plan: ConceptPlan, encoded: EncodedPrompts, config: EraseConfig, channels: int
    ) -> Scene:
        """The first sentence that names the concept as it was written, and the first to keep."""
        whole = (row for row, pair in enumerate(plan.pairs) if pair.word == plan.concept)
        row = next(whole, 0)
        prompts = {"concept": plan.pairs[row].concept_prompt, "keep": plan.keep[0]}
        cond = Conditioning.cat([encoded.concept.take([row]), encoded.keep.take([0])])
        noise = start_noise(len(cond), channels, config.latent_size, seed=config.seed)
        return cls(prompts, cond, noise)


class Previews:
    """Draws the scene as it was before the training, and again whenever asked."""

    def __init__(
        self, backend: FlowModel, scene: Scene, decode: Callable[[Tensor], Tensor]
    ) -> None:
        self._backend, self._scene, self._decode = backend, scene, decode
        self._before = self._draw()

    def compare(self) -> list[dict[str, Any]]:
        """For each prompt the pictures before and now, and how far they differ, as JSON."""
        now = self._draw()
        return [
            {
                "role": role,
                "prompt": prompt,
                "before": data_url(before),
                "after": data_url(after),
                "change": round((after - before).abs().mean().item(), 4),  # of the whole range
            }
            for (role, prompt), before, after in zip(
                self._scene.prompts.items(), self._before, now, strict=True
            )
        ]

    @torch.no_grad()
    def _draw(self) -> Tensor:
        """(2, h, w, 3) in 0..1"""
        latents = sampled(self._backend, self._scene.cond, self._scene.noise, steps=EULER_STEPS)
        return self._decode(latents).float().cpu().clamp(0, 1)


def data_url(picture: Tensor) -> str:
    """A small JPEG of (h, w, 3) in 0..1, in the form an <img> takes."""
    image = image_of(picture)
    image.thumbnail((LONGEST_SIDE, LONGEST_SIDE))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
