"""The rows as a Markdown table, and pictures as a sheet."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .figures import COSTS, FIGURES, means, spread, worst, worst_at

TITLES = {
    "acc_e": "Acc_e",
    "floor": "floor",
    "acc_g": "Acc_g",
    "replaced_one": "replaced, one thing",
    "replaced_two": "replaced, two things",
    "ideal": "ideal distance",
    "ideal_p90": "its 90th percentile",
    "worst_word": "worst word",
    "parts": "parts",
    "acc_ir": "Acc_ir",
    "ira": "IRA",
    "cra": "CRA",
    "acc_co": "Acc_co",
    "drift": "drift",
    "fjd": "FJD",
    "asr_white": "ASR white",
    "asr_white_all": "ASR all tokens",
    "asr_pooled": "ASR pooled",
    "asr_white_1": "ASR white, radius 1",
    "asr_token": "ASR new token",
    "asr_black": "ASR black",
    "black_wordings": "wordings",
    "relearned": "relearned",
    "forwards": "forwards",
    "seconds": "s",
    "peak_mb": "peak MB",
}
DIGITS = {"drift": 4, "fjd": 2, "ideal": 3, "ideal_p90": 3}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: a line for each method's means, then one for each of its concepts."""
    return f"{methods_table(rows)}\n{concept_tables(rows)}"


def methods_table(rows: Sequence[dict[str, Any]], columns: Sequence[str] = FIGURES) -> str:
    """Markdown: a line for each method's means over concepts and seeds, of what rows have."""
    columns = known(rows, columns)
    lines = _head("method", columns)
    for name, some in _by("method", rows).items():
        lines.append(_line(f"**{name}**", some, columns))
    return "\n".join(lines)


def concept_tables(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: for each method a table with a line for each concept's means over seeds."""
    columns, lines = known(rows, FIGURES), []
    for method, some in _by("method", rows).items():
        lines += ["", f"`{method}`, concept by concept:", "", *_head("concept", columns)]
        lines += [_line(name, own, columns) for name, own in _by("concept", some).items()]
    return "\n".join(lines)


def worst_table(rows: Sequence[dict[str, Any]], columns: Sequence[str] = FIGURES) -> str:
    """Markdown: a line for each method's worst single rows, each with its concept and seed."""
    columns = [name for name in known(rows, columns) if name not in COSTS]
    lines = _head("method", columns)
    for method, some in _by("method", rows).items():
        values, places = worst(some), worst_at(some)
        cells = [
            f"{_cell(name, values.get(name), 0)} {places.get(name, '')}".strip() for name in columns
        ]
        lines.append(f"| **{method}** | {' | '.join(cells)} |")
    return "\n".join(lines)


def known(rows: Sequence[dict[str, Any]], columns: Sequence[str]) -> list[str]:
    """Those of the columns that some row has."""
    return [name for name in columns if any(row.get(name) is not None for row in rows)]


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
    digits = DIGITS.get(name, 0 if name in COSTS else 1)
    around = f" ± {deviation:.{digits}f}" if deviation and name not in COSTS else ""
    return f"{value:.{digits}f}{around}"
