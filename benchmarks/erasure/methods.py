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
METHODS = ("base", "esd", "ablate", "gem", "fast")


def config_of(method: str, seed: int) -> EraseConfig:
    """A method's settings: its own objective, on as many samples and paths as `fast` has.

    Rivals get `fast`'s learning rate and its fall, which serve them better than their own.
    """
    if method == "fast":
        return replace(FAST, seed=seed)
    shared = ("steps", "batch", "keep_per_step", "trajectories", "trajectory_steps")
    tuned = ("learning_rate", "cooldown")
    return EraseConfig.from_recipe(
        method, seed=seed, **{name: getattr(FAST, name) for name in (*shared, *tuned)}
    )
