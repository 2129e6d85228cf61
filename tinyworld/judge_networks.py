"""The two judges' networks: unlike each other, so that what both see is in the picture."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType

from torch import Tensor, nn

from .vocabulary import BACKGROUNDS, COLOUR_NAMES, SHAPE_NAMES, STYLE_NAMES

NO_SHAPE = len(SHAPE_NAMES)  # the class of what is none of the shapes
LAYOUTS = ("single", "beside", "over", "nested")
HEADS = {
    "layout": len(LAYOUTS),
    "background": len(BACKGROUNDS),
    **{f"shape{slot}": len(SHAPE_NAMES) + 1 for slot in (0, 1)},
    **{f"colour{slot}": len(COLOUR_NAMES) for slot in (0, 1)},
    **{f"style{slot}": len(STYLE_NAMES) for slot in (0, 1)},
}
FEATURES = 256


class JudgeNetwork(nn.Module):
    """Pictures (B, 3, 128, 128) in 0..1 to a dict of logits, one entry for each head.

    `features` gives (B, width): what is known of a picture before the heads answer.
    """

    def __init__(
        self, features: nn.Module, heads: Mapping[str, int] = HEADS, width: int = FEATURES
    ) -> None:
        super().__init__()
        self.features = features
        self.heads = nn.ModuleDict({name: nn.Linear(width, count) for name, count in heads.items()})

    def forward(self, pictures: Tensor) -> dict[str, Tensor]:
        features = self.features(pictures)
        return {name: head(features) for name, head in self.heads.items()}


def plain_network(heads: Mapping[str, int] = HEADS) -> JudgeNetwork:
    """Five convolutions of stride 2, and one linear layer over all places."""
    layers: list[nn.Module] = []
    for i, (before, after) in enumerate(pairwise((3, 24, 48, 96, 128, 128))):
        layers += [
            nn.Conv2d(before, after, 5 if i == 0 else 3, stride=2, padding=2 if i == 0 else 1)
        ]
        layers += [nn.GroupNorm(8, after), nn.ReLU()]
    layers += [nn.Flatten(), nn.Linear(128 * 16, FEATURES), nn.ReLU()]
    return JudgeNetwork(nn.Sequential(*layers), heads)


def residual_network() -> JudgeNetwork:
    """Patches of 4 x 4 pixels, residual blocks, and a few channels of each place that is left."""
    layers: list[nn.Module] = [nn.Conv2d(3, 40, 4, stride=4)]
    for before, after in pairwise((40, 72, 104)):
        layers += [ResidualUnit(before), nn.Conv2d(before, after, 2, stride=2)]
    layers += [ResidualUnit(104), ResidualUnit(104), nn.GroupNorm(8, 104), nn.SiLU()]
    layers += [nn.Conv2d(104, 20, 1), nn.Flatten(), nn.Linear(20 * 64, FEATURES), nn.SiLU()]
    return JudgeNetwork(nn.Sequential(*layers))


class ResidualUnit(nn.Module):
    """x + conv(silu(norm(conv(silu(norm(x)))))), 3 x 3 at one width."""

    def __init__(self, width: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for _ in range(2):
            layers += [
                nn.GroupNorm(8, width),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


# By the name of their weights.
NETWORKS: Mapping[str, Callable[[], JudgeNetwork]] = MappingProxyType(
    {"judge": plain_network, "judge2": residual_network}
)
