"""The miniatures by the name of their family, with the committed weights."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from . import models, sd35

if TYPE_CHECKING:
    from ..erase_engine.concepts.vocabulary import Vocabulary

DISTILLED = 3.5  # what hosts give such a model where nobody says


WEIGHTS = {  # of each world
    "tinyworld": models.WEIGHTS,
    "gallery": Path(__file__).parents[1] / "gallery" / "weights",
}


@dataclass(frozen=True)
class Miniature:
    """How one is built, and what samplers guide it with."""

    weights: str
    model: Callable[[dict[str, Any]], Any]  # a MODEL of weights
    clip: Callable[[dict[str, Any]], Any]
    latents: models.Latents
    cfg: float = 1.0
    world: str = "tinyworld"

    @property
    def guidance(self) -> float:
        """The engine's own: the input of a distilled model, or what samplers guide it with."""
        return DISTILLED if self.cfg == 1 else self.cfg


_FLUX = Miniature("flux", models.build_model, models.build_clip, models.FLUX_LATENTS)
MINIATURES: Mapping[str, Miniature] = MappingProxyType(
    {
        "Flux": _FLUX,
        "SD3.5": Miniature("sd35", sd35.build_sd35, sd35.build_clip, models.SD3_LATENTS, cfg=3.0),
        "Flux, gallery": replace(_FLUX, world="gallery"),
    }
)


def load_tiny(name: str) -> tuple[Any, Any, Any]:
    """MODEL, CLIP and VAE of a miniature."""
    tiny = MINIATURES[name]
    state = partial(models.load_weights, folder=WEIGHTS[tiny.world])
    clip = tiny.clip(state("text"))
    clip.tokenizer.eraseanything_vocabulary = vocabulary_of(tiny.world)
    vae = models.build_vae(state("vae"), tiny.latents)
    return tiny.model(state(tiny.weights)), clip, vae


def vocabulary_of(world: str) -> Vocabulary:
    """What the planner may say about a world."""
    if world == "gallery":
        from ..gallery.planning import GALLERY

        return GALLERY
    from .planning import TINY_WORLD

    return TINY_WORLD
