"""One row of the table: a concept, a method and a seed, by prompts that no plan has."""

from __future__ import annotations

import time
from typing import Any

from eraseanything_pack.erase_engine.training.loop import Erasure

from ..process_memory import forget_peak, megabytes
from .case import Case, Pictures
from .methods import config_of
from .quality import Look, quality, suspects
from .robustness import robustness


def measured(case: Case, method: str) -> tuple[dict[str, Any], Pictures]:
    """The row, and its pictures for a sheet. Flat figures are the first judge's."""
    erasure, cost = (None, {}) if method == "base" else _train(case, method)
    looks = look_at(case, erasure)
    each = [quality(look) for look in looks]
    if erasure is not None and (case.slow or erasure.forwards):  # what took no pass is soft
        each = [{**q, **r} for q, r in zip(each, robustness(case, erasure), strict=True)]
    row = {
        "concept": case.concept,
        "kind": case.scenery.kind_of(case.concept),
        "method": method,
        "seed": case.seed,
        "count": case.count,
        **each[0],
        **cost,
        "judge2": each[1],
    }
    return row, looks[0].pictures


def look_at(case: Case, erasure: Erasure | None) -> tuple[Look, ...]:
    """Pictures of all kinds of prompts, and of the words that seem to suffer, by each judge."""
    pictures = {kind: case.draw(kind, erasure) for kind in case.kinds}
    absolute, words = erasure is None, {"words": pictures["words"]}
    for word in suspects(Look.at(case, words, absolute=absolute)[0]):
        pictures[f"word {word}"] = case.draw(f"word {word}", erasure)
    return Look.at(case, pictures, absolute=absolute)


def _train(case: Case, method: str) -> tuple[Erasure, dict[str, float]]:
    forget_peak()
    start = time.perf_counter()
    erasure = case.world.erase(case.plan, config_of(method, case.seed))
    return erasure, {
        "forwards": erasure.forwards,
        "seconds": round(time.perf_counter() - start, 1),
        "peak_mb": round(megabytes("VmHWM")),
    }
