"""Pictures of prompts from seeds, as the nodes of this room draw them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ...erase_engine.interfaces import Conditioning, Prompt
from ...erase_engine.sampling import sampled, start_noise
from ..attention.preview import GUIDANCE
from ..host.session import training_session


@dataclass(frozen=True)
class Sampling:
    """How pictures are drawn."""

    steps: int
    resolution: int  # pixels
    guidance: float | None = GUIDANCE

    def latents(
        self,
        model: Any,
        wanted: Iterable[tuple[Prompt, int]],
        unconditional: Prompt,
        on_step: Callable[[], None],
    ) -> list[Tensor]:
        """A latent (1, C, h, w) for each prompt and seed; `on_step` may raise to cancel."""
        with training_session(model, guidance=self.guidance) as backend:
            shape = backend.latents.shape(self.resolution, self.resolution)
            return [
                sampled(
                    backend,
                    Conditioning((prompt,)),
                    start_noise(1, shape, seed=seed),
                    steps=self.steps,
                    unconditional=unconditional,
                    on_step=on_step,
                )
                for prompt, seed in wanted
            ]
