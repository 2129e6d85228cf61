"""One LoRA at several strengths: `python -m benchmarks.strength`.

For one concept of each kind and a phrase: how often the judge still finds it, and how far pictures
of other prompts have moved. Writes a plot and JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from .pack import ROOT, import_pack

import_pack()

import matplotlib
import torch

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from eraseanything_pack.erase_engine.training.loop import Erasure
from eraseanything_pack.tinyworld.evaluate import found

from .erasure.figures import drift, percent
from .erasure.measure import Case
from .erasure.methods import config_of
from .erasure.scenery import TINY_SCENERY
from .result_file import RESULTS, versions, write_result
from .world import World

STRENGTHS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
RESULT, PLOT = RESULTS / "strength.json", ROOT / "docs" / "strength.png"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=48, help="pictures of each kind of prompt")
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    world, rows = World(), []
    for concept in TINY_SCENERY.quick:
        case = Case(world, concept, 0, options.count)
        erasure = world.erase(case.plan, config_of("fast", 0))
        for strength in STRENGTHS:
            rows.append(measured(case, scaled(erasure, strength), strength))
            print(json.dumps(rows[-1]), flush=True)
    result = {
        "command": f"python -m benchmarks.strength --count {options.count}",
        "versions": versions(),
        "seed": 0,
        "rows": rows,
    }
    write_result(RESULT, result)
    plot(rows, PLOT)


def scaled(erasure: Erasure, strength: float) -> Erasure:
    """The erasure as Apply Erasure LoRA puts it on at this strength."""
    state = {
        key: value * strength if key.endswith("lora_B.weight") else value
        for key, value in erasure.state.items()
    }
    return Erasure(state, erasure.history, erasure.forwards)


def measured(case: Case, erasure: Erasure, strength: float) -> dict[str, Any]:
    named, others = (case.draw(kind, erasure) for kind in ("named", "others"))
    return {
        "concept": case.concept,
        "strength": strength,
        "acc_e": percent(found(case.concept, case.prompts["named"], case.world.judge.look(named))),
        "drift": round(drift(others, case.draw("others", None)), 6),
    }


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Both figures over strength, a line for each concept."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    titles = {"acc_e": "concept still found, %", "drift": "drift of other pictures"}
    for axis, (name, title) in zip(axes, titles.items(), strict=True):
        for concept, marker in zip(
            dict.fromkeys(row["concept"] for row in rows), "osD^v", strict=False
        ):
            own = [row for row in rows if row["concept"] == concept]
            axis.plot(
                [r["strength"] for r in own], [r[name] for r in own], marker, ls="-", label=concept
            )
        axis.set(xlabel="strength", title=title, ylim=(0, None))
        axis.spines[["top", "right"]].set_visible(False)
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
