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


# What each loss buys, by `paper` and by `fast`: one is taken away, or added. A closed form knows no
# loss, so that here `fast` trains every word, as it does one that it can't solve.
LOSSES = {"L_esd": "esd", "L_attn": "attention", "L_lora": "reconstruction", "L_rsc": "rsc"}


def _paper(**weights: float) -> EraseConfig:
    paper = EraseConfig.from_recipe("paper")
    return replace(paper, weights=replace(paper.weights, **weights))


def _trained(**weights: float) -> EraseConfig:
    """`fast` that trains every word; in L_attn, where it counts, other words count as in 0.1."""
    entrance = replace(FAST.entrance, most_unsolved=0.0)
    weighed = replace(FAST.weights, **weights)
    others = FAST_0_1["attention_others"] if weighed.attention else FAST.attention_others
    return replace(FAST, entrance=entrance, weights=weighed, attention_others=others)


ABLATION: Mapping[str, EraseConfig] = MappingProxyType(
    {
        **{f"paper, no {loss}": _paper(**{name: 0.0}) for loss, name in LOSSES.items()},
        "fast, trained": _trained(),
        "trained, L_attn for L_esd": _trained(esd=0.0, attention=1.0),
        "trained, with L_attn": _trained(attention=0.2),
        "trained, with L_lora": _trained(reconstruction=0.1),
        "trained, with L_rsc": _trained(rsc=0.1),
        "trained, no L_keep": _trained(keep=0.0),
    }
)
ABLATED = ("base", "paper", "fast", *ABLATION)


def config_of(method: str, seed: int) -> EraseConfig:
    """A method's settings. Raises ValueError for a recipe that does not exist.

    A rival by itself has its own objective and the paper's layers, on as many samples as
    `fast 0.1`, and a learning rate that serves it better than its authors'; with a "+" it has
    everything that is not its idea from `fast 0.1`, and a rate found by the sweep.
    """
    if method in ABLATION:
        return replace(ABLATION[method], seed=seed)
    if method == "fast 0.1":
        return EraseConfig(seed=seed, **FAST_0_1)
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
