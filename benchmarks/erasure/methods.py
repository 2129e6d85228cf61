"""What is compared, and on which concepts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

from eraseanything_pack.erase_engine.config import RECIPES, EraseConfig, LoraConfig, LossWeights

FAST = EraseConfig.from_recipe("fast")
# The recipe `fast` of version 0.1, whatever the recipe of that name is by now.
FAST_0_1: Mapping[str, Any] = MappingProxyType(
    {
        "negative_guidance": 0.0,
        "steps": 160,
        "batch": 8,
        "keep_per_step": 8,
        "learning_rate": 8e-3,
        "rate_width": 192,
        "cooldown": 0.5,
        "keep_learning_rate_ratio": 1.0,
        "attack": 0.5,
        "attention_others": 2.0,
        "trajectories": 44,
        "trajectory_steps": 8,
        "weights": LossWeights(esd=1.0, attention=0.2, keep=6.0),
        "lora": LoraConfig(rank=8, targets="text_pooled"),
    }
)
# What every method shares: as many samples and paths as `fast 0.1`, and its fall of the rate.
SHARED = ("steps", "batch", "keep_per_step", "cooldown", "trajectories", "trajectory_steps")
RIVALS_RATE = 4e-3
# Erase losses of other papers.
RIVALS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "esd": {"negative_guidance": 1.0},
        "ablate": {"negative_guidance": 0.0},
        "gem": {"negative_guidance": 1.0, "erase_form": "hinge", "early": 0.5},
    }
)
ALONE = {"weights": LossWeights(esd=1.0, keep=0.0), "learning_rate": RIVALS_RATE}
# All that is not a rival's own idea is that of `fast 0.1`: layers, rank, keep loss, ratio of rates.
FAIR = {
    **FAST_0_1,
    "attack": 0.0,
    "weights": replace(FAST_0_1["weights"], attention=0.0),
}
# Learning rates of the fair rivals: the best of `python -m benchmarks.erasure.sweep`.
RATES = {"esd+": 1.6e-2, "ablate+": 1.6e-2, "gem+": 8e-3}
METHODS = ("base", *RIVALS, *RATES, "fast 0.1", *RECIPES)
QUICK_METHODS = ("base", "ablate+", "instant", "fast")


# What each part of `fast 0.1` buys: the same with one taken away, added, or as in the paper.
ABLATION: dict[str, dict[str, Any]] = {
    "fast 0.1": {},
    "no L_esd": {"weights": replace(FAST_0_1["weights"], esd=0.0)},
    "no L_attn": {"weights": replace(FAST_0_1["weights"], attention=0.0)},
    "L_attn without the other words": {"attention_others": 0.0},
    "no L_keep": {"weights": replace(FAST_0_1["weights"], keep=0.0)},
    "with L_rsc": {"weights": replace(FAST_0_1["weights"], rsc=0.1)},
    "no attack": {"attack": 0.0},
    "budget solver": {"solver": "budget", "drift_budget": 1e-3},  # about what fast ends at
    "eta 1": {"negative_guidance": 1.0},
    "q and k alone": {"lora": LoraConfig(targets="text_qk")},
    "no pooled text": {"lora": LoraConfig(targets="text_all")},
}


def config_of(method: str, seed: int) -> EraseConfig:
    """A method's settings. Raises ValueError for a recipe that does not exist.

    A rival by itself has its own objective and the paper's layers, on as many samples as
    `fast 0.1`, and a learning rate that serves it better than its authors'; with a "+" it has
    everything that is not its idea from `fast 0.1`, and a rate found by the sweep.
    """
    if method in ABLATION:
        return EraseConfig(seed=seed, **{**FAST_0_1, **ABLATION[method]})
    if method in RIVALS:
        shared = {name: FAST_0_1[name] for name in SHARED}
        return EraseConfig(seed=seed, **shared, **ALONE, **RIVALS[method])
    if method in RATES:
        return fair(method, RATES[method], seed)
    return EraseConfig.from_recipe(method, seed=seed)


def fair(method: str, rate: float, seed: int) -> EraseConfig:
    """A rival with everything that is not its idea taken from `fast 0.1`, at this rate."""
    settings = {**FAIR, **RIVALS[method.removesuffix("+")], "learning_rate": rate}
    return EraseConfig(seed=seed, **settings)
