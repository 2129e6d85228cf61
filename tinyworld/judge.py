"""A judge: a small network that says what is in a picture. Trained on drawn pictures only.

It names the layout (one thing, side by side, one over the other, one inside the other), the
background, and for each of two slots the shape, the colour and the style. Slot 0 is the only
thing, the left one, the upper one or the inner one; slot 1 is the other.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .judge_networks import LAYOUTS, NETWORKS, JudgeNetwork
from .models import load_weights
from .vocabulary import (
    COLOUR_NAMES,
    RELATION_NAMES,
    SHAPE_NAMES,
    STYLE_NAMES,
    Scene,
    Thing,
)

# relation -> (layout, slot of the first named thing)
RELATION_LAYOUT = {
    "above": ("over", 0),
    "below": ("over", 1),
    "left of": ("beside", 0),
    "right of": ("beside", 1),
    "inside": ("nested", 0),
}
NAMES = {"shape": SHAPE_NAMES, "colour": COLOUR_NAMES, "style": STYLE_NAMES}


@dataclass(frozen=True)
class Verdict:
    """Class probabilities for a batch of pictures: `chances[head]` is (N, classes)."""

    chances: dict[str, Tensor]

    def holds(self, relation: str, things: list[tuple[Thing, Thing]]) -> Tensor:
        """(N,) bool: the first of each pair of things stands in `relation` to the second.

        Which drawn thing is the first is settled by how well shape and colour fit either way.
        """
        layout, slot = RELATION_LAYOUT[relation]
        in_place = self.pair_score(things, slot)
        swapped = self.pair_score(things, 1 - slot)
        return self._layout(layout) & (in_place > swapped)

    def _layout(self, name: str) -> Tensor:
        return self.chances["layout"].argmax(-1) == LAYOUTS.index(name)

    def pair_score(self, things: list[tuple[Thing, Thing]], slot: int) -> Tensor:
        """(N,) log chance that the first things lie in `slot` and the second in the other."""
        score = torch.zeros(len(things))
        for place, where in ((0, slot), (1, 1 - slot)):
            for field in ("shape", "colour"):
                index = torch.tensor([getattr(pair[place], field) for pair in things])
                chance = self.chances[f"{field}{where}"]
                score += chance[torch.arange(len(things)), index].clamp_min(1e-6).log()
        return score


class Judge:
    """Looks at pictures in batches."""

    def __init__(self, network: JudgeNetwork) -> None:
        self.network = network.train(False).requires_grad_(False)

    @classmethod
    def load(cls, name: str = "judge") -> Judge:
        """A committed judge, by a name in NETWORKS: "judge", or the second one, "judge2"."""
        network = NETWORKS[name]()
        network.load_state_dict(load_weights(name))
        return cls(network)

    @torch.inference_mode()
    def look(self, pictures: Tensor, batch: int = 100) -> Verdict:
        """`pictures`: (N, 3, 128, 128) in 0..1."""
        if pictures.ndim != 4 or pictures.shape[1:] != (3, 128, 128):
            raise ValueError(
                f"Got pictures {tuple(pictures.shape)}, expected (N, 3, 128, 128) in 0..1."
            )
        parts = [self.network(pictures[i : i + batch]) for i in range(0, len(pictures), batch)]
        heads = self.network.heads
        return Verdict(
            {name: torch.cat([part[name] for part in parts]).softmax(-1) for name in heads}
        )

    @torch.inference_mode()
    def features(self, pictures: Tensor) -> Tensor:
        """(N, 256): what the network knows of each picture before it answers."""
        return self.network.features(pictures)


def slots_of(scene: Scene) -> tuple[int, ...]:
    """The judge's slot of each thing of the scene, in the order they are named."""
    if scene.relation is None:
        return (0,)
    first = RELATION_LAYOUT[RELATION_NAMES[scene.relation]][1]
    return (first, 1 - first)


def layout_of(scene: Scene) -> int:
    """The index in LAYOUTS of the scene's layout."""
    if scene.relation is None:
        return 0
    return LAYOUTS.index(RELATION_LAYOUT[RELATION_NAMES[scene.relation]][0])
