"""The committed rows as a page, docs/figures.md: `python -m benchmarks.erasure.page`."""

from __future__ import annotations

import json
from pathlib import Path

from ..pack import import_pack

import_pack()

from ..result_file import RESULTS  # noqa: E402
from .table import table  # noqa: E402

PAGE = Path(__file__).parents[2] / "docs" / "figures.md"
HEAD = """# Every concept, every method

Made by `python -m benchmarks.erasure.page` from [erasure.json](../benchmarks/results/erasure.json),
whose rows `python -m benchmarks.erasure --full` makes. ± is the spread over seeds; what the columns
say stands in the [README](../README.md#what-to-expect).
"""


def page() -> str:
    rows = json.loads((RESULTS / "erasure.json").read_text(encoding="utf-8"))["rows"]
    return f"{HEAD}\n{table(rows)}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
