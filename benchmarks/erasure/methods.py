"""What is compared, and on which concepts."""

from __future__ import annotations

from dataclasses import replace

from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.tinyworld.vocabulary import SHAPE_NAMES, STYLE_NAMES

CONCEPTS = (
    *SHAPE_NAMES,
    *STYLE_NAMES[1:],
    *("red", "blue", "yellow", "cyan"),
    *("above", "below", "left of", "inside"),
)
QUICK = ("star", "striped", "red", "above")
FAST = EraseConfig.from_recipe("fast")
METHODS = ("base", "esd", "ablate", "gem", "paper", "fast")


def config_of(method: str, seed: int) -> EraseConfig:
    """A method's settings: its own objective, on as many samples and paths as `fast` has.

    Rivals get `fast`'s learning rate and its fall, which serve them better than their own; but
    for `paper`, whose rate belongs to its adapters, and which samples in its own number of steps.
    """
    if method == "fast":
        return replace(FAST, seed=seed)
    shared = ["steps", "batch", "keep_per_step", "cooldown"]
    if method != "paper":
        shared += ["learning_rate", "trajectories", "trajectory_steps"]
    return EraseConfig.from_recipe(
        method, seed=seed, **{name: getattr(FAST, name) for name in shared}
    )
