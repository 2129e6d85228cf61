"""How well concepts are erased, and at what cost: `python -m benchmarks.erasure`.

Every row is one concept, method and seed, on prompts and picture seeds that no training saw. Prints
a table as Markdown and writes it, with its command and versions, as JSON. Rows that the JSON has
already are not made again, so that a stopped run goes on where it was.

--quick takes one concept of each kind, one seed, `base` and `fast` (minutes); --full all of them;
--ablation those of --quick with each part of `fast` taken away in turn.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..pack import import_pack

import_pack()

import torch

from ..result_file import RESULTS, read_result, versions, write_result
from ..world import World
from .figures import means, worst
from .measure import Case, measured
from .methods import ABLATION, CONCEPTS, METHODS, QUICK
from .table import save_sheet, table

SIZES = {  # methods, concepts, seeds, and what that is
    "quick": (("base", "fast"), QUICK, [0], "one concept of each kind (default)"),
    "full": (METHODS, CONCEPTS, [0, 1, 2], "every concept and method, three seeds"),
    "ablation": (("base", *ABLATION), QUICK, [0], "what each part of fast buys"),
}


def main() -> None:
    options = _parse()
    torch.set_num_threads(options.threads)
    result = read_result(options.out) or _new_result(options)
    done = {_key(row) for row in result["rows"]}
    world = World()
    for seed in options.seeds:
        for concept in options.concepts:
            methods = [m for m in options.methods if (concept, m, seed) not in done]
            if not methods:
                continue
            case = Case(world, concept, seed, options.count)
            for method in methods:
                row, pictures = measured(case, method)
                result["rows"].append(row)
                print(json.dumps(row), flush=True)
                _write(options.out, result)
                save_sheet(options.sheets, case, method, pictures)
    print(table(result["rows"]))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    for name, (_, _, _, what) in SIZES.items():
        size.add_argument(
            f"--{name}", dest="size", action="store_const", const=name, default="quick", help=what
        )
    parser.add_argument("--concepts", nargs="+", choices=CONCEPTS, metavar="CONCEPT")
    parser.add_argument("--methods", nargs="+", choices=METHODS + tuple(ABLATION)[1:])
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--count", type=int, default=48, help="pictures of each kind of prompt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sheets", type=Path, help="a folder for before/after sheets")
    parser.add_argument("--out", type=Path, help="JSON; default: benchmarks/results/")
    options = parser.parse_args()
    methods, concepts, seeds, _ = SIZES[options.size]
    options.methods = options.methods or methods
    options.concepts = options.concepts or concepts
    options.seeds = options.seeds or seeds
    suffix = "" if options.size == "full" else f"_{options.size}"
    options.out = options.out or RESULTS / f"erasure{suffix}.json"
    return options


def _new_result(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "command": f"python -m benchmarks.erasure --{options.size}",
        "versions": versions(),
        "count": options.count,
        "rows": [],
    }


def _write(path: Path, result: dict[str, Any]) -> None:
    rows = result["rows"]
    methods = {
        name: [row for row in rows if row["method"] == name]
        for name in dict.fromkeys(row["method"] for row in rows)
    }
    head = {key: value for key, value in result.items() if key != "rows"}
    full = head | {
        "seeds": sorted({row["seed"] for row in rows}),
        "methods": {name: means(some) for name, some in methods.items()},
        "worst": {name: worst(some) for name, some in methods.items()},
        "rows": rows,
    }
    write_result(path, full)


def _key(row: dict[str, Any]) -> tuple[str, str, int]:
    return row["concept"], row["method"], row["seed"]


if __name__ == "__main__":
    main()
