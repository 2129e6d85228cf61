"""The fair rivals' learning rates: `python -m benchmarks.erasure.sweep`.

Each rate of RATES on concepts that stand in no table; the best has the lowest `fault`, averaged
over them. Rows that the JSON has already are not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from statistics import fmean
from typing import Any

from ..pack import import_pack

import_pack()

import torch

from ..result_file import RESULTS, read_result, versions, write_result
from ..world import World
from .case import Case
from .methods import RATES, fair
from .quality import Look, ideal_distance, replacement

CONCEPTS, TRIED = ("orange", "right of"), (4e-3, 8e-3, 1.6e-2, 3.2e-2)
KINDS, COUNT, SEED = ("named", "others"), 24, 0
RESULT = RESULTS / "sweep.json"
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    rows: list[Row] = (read_result(RESULT) or {"rows": []})["rows"]
    world = World()
    for concept in CONCEPTS:
        case = Case(world, concept, SEED, COUNT)
        for method in RATES:
            for rate in TRIED:
                key = (concept, method, rate)
                if key not in [(row["concept"], row["method"], row["rate"]) for row in rows]:
                    rows.append(measured(case, method, rate))
                    print(json.dumps(rows[-1]), flush=True)
                    save(rows)


def measured(case: Case, method: str, rate: float) -> Row:
    """What the first judge says of one training."""
    erasure = case.world.erase(case.plan, fair(method, rate, SEED))
    pictures = {kind: case.draw(kind, erasure) for kind in KINDS}
    return {
        "concept": case.concept,
        "method": method,
        "rate": rate,
        **faults(Look.at(case, pictures)[0]),
    }


def faults(look: Look) -> dict[str, float]:
    """What is wrong, in points of 100, and their sum: found, not replaced, not kept, not ideal."""
    kept = look.share(look.obeyed("others"), look.base.obeyed("others")) or 0.0
    replaced = [rate for rate in replacement(look).values() if rate is not None]
    each = {
        "found": float(look.found("named").float().mean()) * 100,
        "not_replaced": 100 - fmean(replaced),
        "not_kept": 100 - kept,
        "not_ideal": 100 * ideal_distance(look)["ideal"],
    }
    each = {name: round(value, 2) for name, value in each.items()}
    return {**each, "fault": round(sum(each.values()), 2)}


def chosen(rows: Sequence[Row]) -> dict[str, float]:
    """Each method's rate with the lowest mean fault over concepts."""
    faults: dict[tuple[str, float], list[float]] = {}
    for row in rows:
        faults.setdefault((row["method"], row["rate"]), []).append(row["fault"])
    means = {key: fmean(values) for key, values in faults.items()}
    best: dict[str, float] = {}
    for (method, rate), fault in means.items():
        if method not in best or fault < means[method, best[method]]:
            best[method] = rate
    return best


def save(rows: Sequence[Row]) -> None:
    write_result(
        RESULT,
        {
            "command": "python -m benchmarks.erasure.sweep",
            "versions": versions(),
            "seed": SEED,
            "count": COUNT,
            "chosen": chosen(rows),
            "rows": rows,
        },
    )


if __name__ == "__main__":
    main()
