"""Ten concepts of all kinds, erased with one setting: `python -m benchmarks.erasures`.

Prints a table as Markdown and writes it, with its command and versions, as JSON; with --sheets also
a before/after picture sheet for each concept. Rows that the JSON has already are not made again.
"""

from __future__ import annotations

import argparse
import json
import platform
from pathlib import Path
from typing import Any

from .pack import import_pack

CONCEPTS = (
    *("star", "circle", "heart", "ring"),
    *("striped", "dotted"),
    *("red", "blue"),
    *("above", "inside"),
)
COLUMNS = {
    "found": "found",
    "base_found": "base",
    "floor": "floor",
    "kept": "others",
    "base_kept": "base",
    "rest": "rest",
    "base_rest": "base",
    "drift": "drift",
    "forwards": "forwards",
    "seconds": "s",
}


def main() -> None:
    options = _parse()
    import_pack()
    import torch
    from eraseanything_pack.erase_engine.config import EraseConfig, LoraConfig, LossWeights

    from .world import World, as_row, measure, tiny_config, train

    torch.set_num_threads(options.threads)
    records = {"weights": lambda v: LossWeights(**v), "lora": lambda v: LoraConfig(**v)}
    overrides = {
        name: records.get(name, lambda v: v)(json.loads(value)) for name, value in options.set
    }
    config = tiny_config(EraseConfig.from_recipe(options.recipe, **overrides))
    result = _read(options.out) or {
        "command": f"python -m benchmarks.erasures --recipe {options.recipe}",
        "config": json.loads(config.to_json()),
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
        "seeds": [config.seed],
        "rows": [],
    }
    done = {row["concept"] for row in result["rows"]}
    world = World()
    for concept in (one for one in options.concepts if one not in done):
        trained = train(world, concept, config)
        figures, pictures = measure(world, trained, count=options.count)
        result["rows"].append(as_row(concept, figures))
        print(_line(result["rows"][-1]), flush=True)
        if options.sheets:
            _save_sheet(options.sheets / f"{concept.replace(' ', '_')}.png", pictures)
        if options.out:
            options.out.parent.mkdir(parents=True, exist_ok=True)
            options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(_table(result["rows"]))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concepts", nargs="+", default=CONCEPTS)
    parser.add_argument("--recipe", default="fast")
    parser.add_argument(
        "--set", nargs=2, action="append", default=[], metavar=("NAME", "JSON"), help="a setting"
    )
    parser.add_argument("--count", type=int, default=50, help="pictures with, and without")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--sheets", type=Path, help="a folder for picture sheets")
    parser.add_argument("--out", type=Path, help="JSON; default: no file")
    return parser.parse_args()


def _read(path: Path | None) -> dict[str, Any] | None:
    return json.loads(path.read_text(encoding="utf-8")) if path and path.exists() else None


def _line(row: dict[str, Any]) -> str:
    cells = [f"{row[name]:.4f}" if name == "drift" else f"{row[name]:.10g}" for name in COLUMNS]
    return f"| {row['concept']} | {' | '.join(cells)} |"


def _table(rows: list[dict[str, Any]]) -> str:
    """Markdown: one line a concept, then the means."""
    mean = {name: sum(row[name] for row in rows) / len(rows) for name in COLUMNS}
    mean = {name: round(value, 4 if name == "drift" else 1) for name, value in mean.items()}
    head = f"| concept | {' | '.join(COLUMNS.values())} |"
    return "\n".join(
        [
            head,
            "|---" * (len(COLUMNS) + 1) + "|",
            *map(_line, rows),
            _line({**mean, "concept": "mean"}),
        ]
    )


def _save_sheet(path: Path, pictures: dict[str, Any], columns: int = 12) -> None:
    """Four rows: named base, named erased, others base, others erased."""
    import torch
    from einops import rearrange
    from PIL import Image

    rows = torch.cat([some[:columns] for some in pictures.values()])
    sheet = rearrange(rows, "(r c) k h w -> (r h) (c w) k", c=columns)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray((sheet * 255).round().byte().numpy()).save(path)


if __name__ == "__main__":
    main()
