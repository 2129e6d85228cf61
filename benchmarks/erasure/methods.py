"""What is compared, and on which concepts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from eraseanything_pack.erase_engine.config import EraseConfig, LoraConfig, LossWeights
from eraseanything_pack.tinyworld.vocabulary import SHAPE_NAMES, STYLE_NAMES

CONCEPTS = (
    *SHAPE_NAMES,
    *STYLE_NAMES[1:],
    *("red", "blue", "yellow", "cyan"),
    *("above", "below", "left of", "inside"),
)
QUICK = ("star", "striped", "red", "above")
FAST = EraseConfig.from_recipe("fast")
RIVALS_RATE = 4e-3
ALONE = LossWeights(esd=1.0, keep=0.0)
# Erase losses of other papers, each by itself.
RIVALS: dict[str, dict[str, Any]] = {
    "esd": {"weights": ALONE},
    "ablate": {"weights": ALONE, "negative_guidance": 0.0},
    "gem": {"weights": ALONE, "erase_form": "hinge", "early": 0.5},
}
METHODS = ("base", *RIVALS, "paper", "fast")


# What each part of `fast` buys: the same with one of them taken away, added, or as in the paper.
ABLATION: dict[str, dict[str, Any]] = {
    "fast": {},
    "no L_esd": {"weights": replace(FAST.weights, esd=0.0)},
    "no L_attn": {"weights": replace(FAST.weights, attention=0.0)},
    "L_attn without the other words": {"attention_others": 0.0},
    "no L_keep": {"weights": replace(FAST.weights, keep=0.0)},
    "with L_rsc": {"weights": replace(FAST.weights, rsc=0.1)},
    "no attack": {"attack": 0.0},
    "budget solver": {"solver": "budget", "drift_budget": 1e-3},  # about what fast ends at
    "eta 1": {"negative_guidance": 1.0},
    "q and k alone": {"lora": LoraConfig(targets="text_qk")},
    "no pooled text": {"lora": LoraConfig(targets="text_all")},
}


def config_of(method: str, seed: int) -> EraseConfig:
    """A method's settings: its own objective and layers, on as many samples and paths as `fast`.

    Rivals get a learning rate and a fall of it that serve them better than their own; but for
    `paper`, which is the node's recipe, on its release's schedule.
    """
    if method in ABLATION:
        return replace(FAST, seed=seed, **ABLATION[method])
    if method == "paper":
        return EraseConfig.from_recipe(method, seed=seed)
    shared = {name: getattr(FAST, name) for name in ("steps", "batch", "keep_per_step", "cooldown")}
    shared |= {name: getattr(FAST, name) for name in ("trajectories", "trajectory_steps")}
    return EraseConfig(seed=seed, learning_rate=RIVALS_RATE, **shared, **RIVALS[method])
