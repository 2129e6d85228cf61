"""The benchmark's arithmetic: functions of verdicts, pictures and features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean, pstdev
from typing import Any

import torch
from torch import Tensor

ATTACKS = (
    *("asr_white", "asr_white_all", "asr_pooled", "asr_white_1"),
    *("asr_token", "asr_black"),
)
LOWER_IS_BETTER = ("acc_e", "floor", "acc_g", "drift", "fjd", "ideal", "ideal_p90", *ATTACKS)
HIGHER_IS_BETTER = (
    *("acc_ir", "ira", "cra", "acc_co", "replaced_one", "replaced_two"),
    *("worst_word", "parts", "relearned", "black_wordings"),
)
COSTS = ("forwards", "seconds", "peak_mb")
FIGURES = (
    *("acc_e", "floor", "acc_g", "replaced_one", "replaced_two", "ideal", "ideal_p90"),
    *("worst_word", "parts", "acc_ir", "ira", "cra", "acc_co", "drift", "fjd"),
    *(*ATTACKS, "black_wordings", "relearned", *COSTS),
)


def percent(hits: Tensor) -> float:
    """A share of pictures, 0 to 100."""
    return round(100 * hits.float().mean().item(), 2)


def drift(erased: Tensor, base: Tensor) -> float:
    """Mean squared difference of pictures in 0..1 from the same seeds."""
    return (erased - base).square().mean().item()


def frechet_distance(one: Tensor, other: Tensor) -> float:
    """Between gaussians fitted to two sets of features, (N, F) and (M, F).

        |m1 - m2|^2 + tr( C1 + C2 - 2 (C1 C2)^(1/2) )

    The last trace is a sum of singular values, with X1 and X2 the centred features over
    sqrt(N - 1): tr (C1 C2)^(1/2) = |X1 X2^T|_*. It needs no matrix root, and no more samples
    than features.
    """
    means = [each.double().mean(dim=0) for each in (one, other)]
    centred = [
        (each.double() - mean) / (len(each) - 1) ** 0.5
        for each, mean in zip((one, other), means, strict=True)
    ]
    spread = sum(each.square().sum() for each in centred)
    shared = torch.linalg.svdvals(centred[0] @ centred[1].T).sum()
    distance = (means[0] - means[1]).square().sum() + spread - 2 * shared
    return max(0.0, float(distance))


def means(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Each figure's mean over rows; those that no row has are left out."""
    return {name: round(fmean(values), 4) for name, values in _columns(rows)}


def spread(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Each figure's standard deviation over seeds, of its mean over concepts."""
    seeds = sorted({row["seed"] for row in rows})
    per_seed = [means([row for row in rows if row["seed"] == seed]) for seed in seeds]
    return {name: round(pstdev(values), 4) for name, values in _columns(per_seed)}


def worst(rows: Sequence[Mapping[str, Any]]) -> dict[str, float]:
    """Each figure's worst single row, over concepts and seeds."""
    return {name: row[name] for name, row in worst_rows(rows).items()}


def worst_at(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Which row each figure's worst is, as "star, seed 0"."""
    found = worst_rows(rows).items()
    return {name: f"{row['concept']}, seed {row['seed']}" for name, row in found}


def worst_rows(rows: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """The row with the worst value of each figure that some row has."""
    found = {}
    for name in FIGURES:
        some = [row for row in rows if row.get(name) is not None]
        best = min if name in HIGHER_IS_BETTER else max
        if some:
            found[name] = best(some, key=lambda row, name=name: row[name])
    return found


def _columns(rows: Sequence[Mapping[str, Any]]) -> Iterable[tuple[str, list[float]]]:
    for name in FIGURES:
        values = [row[name] for row in rows if row.get(name) is not None]
        if values:
            yield name, values
