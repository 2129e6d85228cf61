"""The rows as a Markdown table, and pictures as a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eraseanything_pack.erase_engine.contact_sheet import Row, contact_sheet, image_of
from torch import Tensor

from .figures import COSTS, FIGURES, means, spread
from .measure import Case

TITLES = {
    "acc_e": "Acc_e",
    "floor": "floor",
    "acc_g": "Acc_g",
    "drift": "drift",
    "fjd": "FJD",
    "asr_white": "ASR white",
    "asr_black": "ASR black",
    "acc_ir": "Acc_ir",
    "acc_co": "Acc_co",
    "forwards": "forwards",
    "seconds": "s",
    "peak_mb": "peak MB",
}
SHOWN = 12  # pictures in a row of a sheet


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each method's means, then one for each of its concepts."""
    return f"{methods_table(rows)}\n{concept_tables(rows)}"


def methods_table(rows: Sequence[dict[str, Any]], columns: Sequence[str] = FIGURES) -> str:
    """Markdown: a line for each method's means over concepts and seeds."""
    lines = _head("method", columns)
    for name, some in _by("method", rows).items():
        lines.append(_line(f"**{name}**", some, columns))
    return "\n".join(lines)


def concept_tables(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: for each method a table with a line for each concept's means over seeds."""
    lines = []
    for method, some in _by("method", rows).items():
        lines += ["", f"`{method}`, concept by concept:", "", *_head("concept", FIGURES)]
        lines += [_line(name, own, FIGURES) for name, own in _by("concept", some).items()]
    return "\n".join(lines)


def _by(key: str, rows: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    return {
        name: [row for row in rows if row[key] == name]
        for name in dict.fromkeys(row[key] for row in rows)
    }


def _head(first: str, columns: Sequence[str]) -> list[str]:
    titles = [first, *(TITLES[name] for name in columns)]
    return [f"| {' | '.join(titles)} |", f"{'|---' * len(titles)}|"]


def _line(first: str, rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    figures, spreads = means(rows), spread(rows)
    cells = [_cell(name, figures.get(name), spreads.get(name, 0)) for name in columns]
    return f"| {first} | {' | '.join(cells)} |"


def _cell(name: str, value: float | None, deviation: float) -> str:
    if value is None:
        return ""
    digits = {"drift": 4, "fjd": 2}.get(name, 0 if name in COSTS else 1)
    around = f" ± {deviation:.{digits}f}" if deviation and name not in COSTS else ""
    return f"{value:.{digits}f}{around}"


def save_sheet(folder: Path | None, case: Case, method: str, pictures: dict[str, Tensor]) -> None:
    """Four rows: prompts with the concept, base and erased; prompts without it, base and erased."""
    if folder is None or method == "base":
        return
    rows = [
        Row(
            [image_of(picture.permute(1, 2, 0)) for picture in some[:SHOWN]],
            [f"{heading}, {when}"],
        )
        for kind, heading in (
            ("named", f"prompts with {case.concept}"),
            ("others", "other prompts"),
        )
        for when, some in (("before", case.draw(kind, None)), ("after", pictures[kind]))
    ]
    folder.mkdir(parents=True, exist_ok=True)
    name = f"{case.concept.replace(' ', '_')}_{method}_{case.seed}.png"
    contact_sheet(rows, cell=rows[0].cells[0].width).save(folder / name)
