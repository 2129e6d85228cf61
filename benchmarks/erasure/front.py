"""Clean or hard: what recipes and settings give of both, `python -m benchmarks.erasure.front`.

Ideal distance against white-box attacks, over some concepts and seeds, a point for each setting.
Rows that the JSON has already are not made again. Draws docs/front.png.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from types import MappingProxyType
from typing import Any

from ..pack import ROOT, import_pack

import_pack()

import torch
from torch import Generator

from ..result_file import RESULTS, read_result, versions, write_result
from ..world import World
from .attacks import target_of
from .case import Case
from .figures import percent
from .methods import FAST, config_of
from .quality import Look, ideal_distance, replacement
from .robustness import white_box

CONCEPTS, SEEDS, COUNT = ("star", "cross", "cyan", "dotted"), (0, 1, 2), 24
# Before the concept's own tokens counted more than attacks on them.
HARD = {"own_share": 2.0, "attack_share": 2.0, "most_unsolved": 0.45}
# What differs from the recipe's entrance.
SETTINGS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "closed form alone": {**HARD, "rounds": 0, "tempering": 0},
        "attacks count 0.25": {**HARD, "attack_share": 0.25},
        "attacks count 0.5": {**HARD, "attack_share": 0.5},
        "attacks count 2": HARD,
        "not tempered": {**HARD, "tempering": 0},
        "all attacks join": {**HARD, "holds": 100.0},
        "fast": {},
        "hardened": vars(config_of("hardened", 0).entrance),
    }
)
RESULT, PLOT = RESULTS / "front.json", ROOT / "docs" / "front.png"
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concepts", nargs="+", choices=CONCEPTS, default=CONCEPTS)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    world = World()
    for concept in options.concepts:
        for seed in SEEDS:
            case = Case(world, concept, seed, COUNT)
            for setting in SETTINGS:
                rows = known()
                if (concept, seed, setting) not in [key_of(row) for row in rows]:
                    row = measured(case, setting)
                    print(json.dumps(row), flush=True)
                    save([*known(), row])  # read anew: another process may add its own
    draw(known())


def known() -> list[Row]:
    return (read_result(RESULT) or {"rows": []})["rows"]


def key_of(row: Row) -> tuple[str, int, str]:
    return row["concept"], row["seed"], row["setting"]


def measured(case: Case, setting: str) -> Row:
    """What the first judge says of one erasure."""
    changed = replace(FAST.entrance, **SETTINGS[setting])
    steps = {"steps": 0} if not (changed.rounds or changed.tempering) else {}
    config = replace(FAST, seed=case.seed, entrance=changed, **steps)
    erasure = case.world.erase(case.plan, config)
    look = Look.at(case, {"named": case.draw("named", erasure)})[0]
    target = target_of(case)  # sampled from the base model, so before the erasure is on
    with case.world.erased(erasure) as erased:
        generator = Generator().manual_seed(case.seed)
        [pictures] = white_box(case.world, target, erased, ["asr_white"], generator).values()
    found = case.scenery.found(case.concept, target.prompts, case.world.look(pictures)[0])
    return {
        "concept": case.concept,
        "seed": case.seed,
        "setting": setting,
        "found": percent(look.found("named")),
        **replacement(look),
        **ideal_distance(look),
        "asr_white": percent(found),
        "forwards": erasure.forwards,
    }


def means(rows: Sequence[Row]) -> dict[str, dict[str, float]]:
    """Of each setting."""
    some = {name: [row for row in rows if row["setting"] == name] for name in SETTINGS}
    figures = ("found", "replaced_two", "ideal", "asr_white", "forwards")
    return {
        name: {each: round(fmean(row[each] for row in of), 4) for each in figures}
        for name, of in some.items()
        if of
    }


def save(rows: Sequence[Row]) -> None:
    write_result(
        RESULT,
        {
            "command": "python -m benchmarks.erasure.front",
            "versions": versions(),
            "seeds": SEEDS,
            "count": COUNT,
            "means": means(rows),
            "rows": sorted(rows, key=key_of),
        },
    )


def draw(rows: Sequence[Row]) -> None:
    """The plot: down is hard, left is clean."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 4), dpi=110, layout="constrained")
    for name, each in means(rows).items():
        axes.plot(each["ideal"], each["asr_white"], "o", label=name, markersize=8)
    axes.set_xlabel("ideal distance (0: the replacement's very picture)")
    axes.set_ylabel("brought back by a white-box attack, %")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.legend()
    figure.savefig(PLOT)


if __name__ == "__main__":
    main()
