"""How well concepts are erased, and at what cost: `python -m benchmarks.erasure`.

Every row is one concept, method and seed, on prompts and picture seeds that no training saw. Prints
a table as Markdown and writes it, with its command and versions, as JSON. Rows that the JSON has
already are not made again, so that a stopped run goes on where it was.

--quick takes one concept of each kind, one seed, `base` and `fast` (minutes); --full all of them.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..pack import import_pack

import_pack()

import torch  # noqa: E402

from ..result_file import RESULTS, versions, write_result  # noqa: E402
from ..world import World  # noqa: E402
from .figures import means, worst  # noqa: E402
from .measure import Case, measured  # noqa: E402
from .methods import CONCEPTS, METHODS, QUICK  # noqa: E402
from .table import save_sheet, table  # noqa: E402


def main() -> None:
    options = _parse()
    torch.set_num_threads(options.threads)
    result = _read(options.out) or _new_result(options)
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
    size.add_argument("--quick", action="store_true", help="one concept of each kind (default)")
    size.add_argument("--full", action="store_true", help="every concept and method, three seeds")
    parser.add_argument("--concepts", nargs="+", choices=CONCEPTS, metavar="CONCEPT")
    parser.add_argument("--methods", nargs="+", choices=METHODS)
    parser.add_argument("--seeds", nargs="+", type=int)
    parser.add_argument("--count", type=int, default=48, help="pictures of each kind of prompt")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sheets", type=Path, help="a folder for before/after sheets")
    parser.add_argument("--out", type=Path, help="JSON; default: benchmarks/results/")
    options = parser.parse_args()
    options.concepts = options.concepts or (CONCEPTS if options.full else QUICK)
    options.methods = options.methods or (METHODS if options.full else ("base", "fast"))
    options.seeds = options.seeds or ([0, 1, 2] if options.full else [0])
    name = "erasure.json" if options.full else "erasure_quick.json"
    options.out = options.out or RESULTS / name
    return options


def _new_result(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "command": f"python -m benchmarks.erasure {'--full' if options.full else '--quick'}",
        "versions": versions(),
        "count": options.count,
        "rows": [],
    }


def _read(path: Path) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


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
