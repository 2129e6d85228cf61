"""What benchmarks/results/memory.json claims of core's own node and of watching attention."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

RESULT = json.loads(
    (Path(__file__).parents[2] / "benchmarks" / "results" / "memory.json").read_text("utf-8")
)
TEXT_TOKENS = 256  # of every case
CORE: dict[str, Any] = {row["way"]: row for row in RESULT["core"]["rows"]}
CAPTURE: dict[str, Any] = RESULT["capture"]


@pytest.mark.parametrize("way", [way for way in CORE if way != "core"])
def test_a_pass_is_no_slower_and_no_larger_than_in_cores_node(way: str) -> None:
    for name in ("processor_s_per_pass", "peak_above_weights_mb"):
        assert CORE[way][name] <= CORE["core"][name]


def test_watching_all_double_blocks_adds_at_most_two_percent_to_a_step() -> None:
    rows = [row for row in CAPTURE["operations"] if row["image_tokens"] == 1024]
    assert [row["blocks"] for row in rows] == [[1, 1], [19, 38]]
    assert all(row["percent_of_a_step"]["all"] <= 2 for row in rows)
    timed = [row["percent_of_a_step"] for row in CAPTURE["rows"]]
    assert all(row["least"] <= 2 and row["median_of_pairs"] <= 2 for row in timed)


def test_what_watching_keeps_grows_linearly_in_the_tokens() -> None:
    kept = [row["kept_mb"]["with"] - row["kept_mb"]["without"] for row in CAPTURE["rows"]]
    tokens = [row["image_tokens"] + TEXT_TOKENS for row in CAPTURE["rows"]]
    each = [mb / count for mb, count in zip(kept, tokens, strict=True)]
    assert each == pytest.approx([each[0]] * len(each), rel=0.1)
