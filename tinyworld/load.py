"""The miniatures by the name of their family, with the committed weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from . import models, sd35

DISTILLED = 3.5  # what hosts give such a model where nobody says


@dataclass(frozen=True)
class Miniature:
    """How one is built, and what samplers guide it with."""

    weights: str
    model: Callable[[dict[str, Any]], Any]  # a MODEL of weights
    clip: Callable[[dict[str, Any]], Any]
    latents: models.Latents
    cfg: float = 1.0

    @property
    def guidance(self) -> float:
        """The engine's own: the input of a distilled model, or what samplers guide it with."""
        return DISTILLED if self.cfg == 1 else self.cfg


MINIATURES: Mapping[str, Miniature] = MappingProxyType(
    {
        "Flux": Miniature("flux", models.build_model, models.build_clip, models.FLUX_LATENTS),
        "SD3.5": Miniature("sd35", sd35.build_sd35, sd35.build_clip, models.SD3_LATENTS, cfg=3.0),
    }
)


def load_tiny(name: str) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of a miniature."""
    from .planning import TINY_WORLD

    tiny = MINIATURES[name]
    clip = tiny.clip(models.load_weights("text"))
    clip.tokenizer.eraseanything_vocabulary = TINY_WORLD  # what the planner may say about it
    vae = models.build_vae(models.load_weights("vae"), tiny.latents)
    return tiny.model(models.load_weights(tiny.weights)), clip, vae
