"""How well concepts are erased, and at what cost: `python -m benchmarks.erasure`.

Every row is one concept, method and seed, on prompts and picture seeds that no training saw. Prints
a table as Markdown and writes it, with its command and versions, as JSON. Rows that the JSON has
already are not made again, so that a stopped run goes on where it was.

--quick takes one concept of each kind, one seed, the base model, `ablate+`, `instant` and `fast`,
and leaves out the slowest attacks, and on `instant`, which says that it is soft, all of them (nine
minutes of two cores); --full all of them; --ablation the concepts of --quick by `paper` and `fast`,
with each loss taken away or added in turn.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..pack import ROOT, import_pack

import_pack()

from eraseanything_pack.tinyworld.load import MINIATURES

from ..result_file import RESULTS, read_result, versions, write_result
from ..world import FAMILY, WORLDS, option_of, scenery_of, stem_of
from .figures import means, spread, worst, worst_at
from .methods import ABLATED, ABLATION, METHODS, QUICK_METHODS
from .table import table
from .workers import Job, rows_of

SIZES = {  # methods, seeds, pictures of each kind of prompt, and what that is
    "quick": (QUICK_METHODS, [0], 24, "one concept of each kind (default)"),
    "full": (METHODS, [0, 1, 2, 3, 4], 48, "every concept and method, five seeds"),
    "ablation": (ABLATED, [0], 24, "what each loss buys, by paper and by fast"),
}


def main() -> None:
    options = _parse()
    result = read_result(options.out) or _new_result(options)
    result["rows"] = [row for row in result["rows"] if "judge2" in row]  # of today's measures
    done = {(row["concept"], row["method"], row["seed"]) for row in result["rows"]}
    jobs = []
    for seed in options.seeds:
        for concept in options.concepts:
            methods = [m for m in options.methods if (concept, m, seed) not in done]
            sheets = options.sheets if seed == options.seeds[0] else None
            jobs.append(
                Job(concept, seed, methods, options.count, sheets, options.shown, options.slow)
            )
    for row in rows_of([job for job in jobs if job.methods], options.workers, options.model):
        result["rows"].append(row)
        print(json.dumps(row), flush=True)
        _write(options.out, result)
    print(table(result["rows"]))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    for name, (*_, what) in SIZES.items():
        size.add_argument(
            f"--{name}", dest="size", action="store_const", const=name, default="quick", help=what
        )
    parser.add_argument("--concepts", nargs="+", metavar="CONCEPT", help="of the world's own")
    parser.add_argument("--methods", nargs="+", choices=dict.fromkeys((*METHODS, *ABLATION)))
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--count", type=int, help="pictures of each kind of prompt")
    parser.add_argument("--world", choices=WORLDS, default="tinyworld", help="of pictures")
    parser.add_argument(
        "--model", choices=MINIATURES, type=miniature, help="which miniature, of whatever world"
    )
    parser.add_argument("--workers", type=int, default=2, help="processes, each on one core")
    parser.add_argument("--sheets", type=Path, help="a folder for the pictures of each concept")
    parser.add_argument("--shown", default="fast", help="the method whose pictures go there")
    parser.add_argument("--out", type=Path, help="JSON; default: benchmarks/results/")
    options = parser.parse_args()
    options.model = options.model or WORLDS[options.world]
    methods, seeds, count, _ = SIZES[options.size]
    options.methods = options.methods or methods
    scenery = scenery_of(options.model)
    few = scenery.concepts if options.size == "full" else scenery.quick
    options.concepts = options.concepts or few
    if unknown := set(options.concepts) - set(scenery.concepts):
        parser.error(
            f"got {', '.join(sorted(unknown))}, expected some of {', '.join(scenery.concepts)}"
        )
    options.seeds = options.seeds or seeds
    options.count = options.count or count
    options.slow = options.size == "full"
    if options.size == "full" and not options.sheets:
        own = "" if options.model == FAMILY else stem_of(options.model)
        options.sheets = ROOT / "docs" / "sheets" / own
    suffix = "" if options.size == "full" else f"_{options.size}"
    options.out = options.out or RESULTS / f"{stem_of(options.model, suffix)}.json"
    return options


def miniature(name: str) -> str:
    """The miniature's name, however its letters are; an unknown one as it came."""
    return {known.lower(): known for known in MINIATURES}.get(name.lower(), name)


def _new_result(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "command": f"python -m benchmarks.erasure --{options.size}{option_of(options.model)}",
        "versions": versions(),
        "count": options.count,
        "rows": [],
    }


def _write(path: Path, result: dict[str, Any]) -> None:
    """Rows sorted by method, after each method's means, spread over seeds, and worst rows."""
    order = {name: number for number, name in enumerate((*METHODS, *ABLATION))}
    rows = sorted(
        result["rows"], key=lambda row: (order[row["method"]], row["concept"], row["seed"])
    )
    methods = {
        name: [row for row in rows if row["method"] == name]
        for name in dict.fromkeys(row["method"] for row in rows)
    }
    head = {key: result[key] for key in ("command", "versions", "count")}
    full = head | {
        "seeds": sorted({row["seed"] for row in rows}),
        "methods": {name: _means(some) for name, some in methods.items()},
        "spread": {name: spread(some) for name, some in methods.items()},
        "worst": {name: worst(some) for name, some in methods.items()},
        "worst_at": {name: worst_at(some) for name, some in methods.items()},
        "rows": rows,
    }
    write_result(path, full)


def _means(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """By the first judge, and in "judge2" by the second."""
    return {**means(rows), "judge2": means([row["judge2"] for row in rows])}


if __name__ == "__main__":
    main()
