"""What a training is said to need: against sums done by hand, and against what was measured."""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from pathlib import Path
from typing import Any

import pytest

from erase_engine.memory import (
    BACKWARD,
    TrainingSize,
    estimate_memory,
    gigabytes,
    predicted_seconds,
    tokens_of,
    weights_of,
)

MEASURED = Path(__file__).parents[2] / "benchmarks" / "results" / "memory.json"
BYTES = {"float32": (4, 4), "bfloat16": (2, 2), "float8_e4m3fn": (1, 2)}
WHOLE = TrainingSize(
    depth=19,
    singles=38,
    image_tokens=1024,
    text_tokens=256,
    batch=1,
    weight_bytes=1,
    compute_bytes=2,
)


def test_the_published_model_has_its_twelve_billion_weights() -> None:
    assert weights_of(19, 38) == 11_901_408_320  # as the file of FLUX.1-dev has


def test_a_token_covers_sixteen_by_sixteen_pixels() -> None:
    assert tokens_of(512, 256) == 512


def test_parts_of_the_whole_model() -> None:
    memory = estimate_memory(WHOLE)
    assert memory.weights == 11_901_408_320
    assert memory.kept == 57 * 1280 * 3072 * 2  # an input for each block
    assert memory.lora == 16 * 38 * 2 * 3072 * 8
    assert memory.total == sum(astuple(memory)) <= 16e9


@pytest.mark.parametrize("change", [{"batch": 2}, {"image_tokens": 4096}, {"depth": 20}])
def test_more_of_anything_needs_more(change: dict[str, int]) -> None:
    assert estimate_memory(replace(WHOLE, **change)).total > estimate_memory(WHOLE).total


def test_a_batch_of_two_keeps_twice_as_much() -> None:
    one, two = estimate_memory(WHOLE), estimate_memory(replace(WHOLE, batch=2))
    assert two.kept == 2 * one.kept and two.weights == one.weights and two.lora == one.lora


def test_checkpointing_keeps_less_and_costs_a_forward_pass() -> None:
    kept = replace(WHOLE, checkpointing=False)
    assert estimate_memory(kept).kept > 10 * estimate_memory(WHOLE).kept
    args: dict[str, Any] = {"plain": 3, "trained": 2}
    assert predicted_seconds(10, **args) == pytest.approx(30 + 20 * (2 + BACKWARD))
    assert predicted_seconds(10, **args) - predicted_seconds(
        10, **args, checkpointing=False
    ) == pytest.approx(20)


@pytest.mark.parametrize("name", ["depth", "batch", "rank", "image_tokens", "weight_bytes"])
def test_nothing_of_a_size_is_an_error(name: str) -> None:
    with pytest.raises(ValueError, match=f"Got {name} 0, expected at least 1"):
        replace(WHOLE, **{name: 0})


def rows() -> list[dict[str, Any]]:
    return json.loads(MEASURED.read_text("utf-8"))["rows"]


def label(row: dict[str, Any]) -> str:
    kept = "checkpointed" if row["checkpointing"] else "kept"
    return (
        f"{row['depth']}+{row['singles']}-{row['pixels']}-{row['dtype']}-{kept}-rank{row['rank']}"
    )


@pytest.mark.parametrize("row", rows(), ids=label)
def test_measured_memory_is_met_within_15_percent(row: dict[str, Any]) -> None:
    """Also without the weights, which are most of it and easily foretold: within 25."""
    weight_bytes, compute_bytes = BYTES[row["dtype"]]
    memory = estimate_memory(
        TrainingSize(
            depth=row["depth"],
            singles=row["singles"],
            image_tokens=tokens_of(row["pixels"], row["pixels"]),
            text_tokens=256,
            batch=1,
            weight_bytes=weight_bytes,
            compute_bytes=compute_bytes,
            checkpointing=row["checkpointing"],
            targets=row["targets"],
            rank=row["rank"],
        )
    )
    assert memory.total / 2**20 == pytest.approx(row["measured_mb"], rel=0.15)
    above = (memory.total - memory.weights) / 2**20
    assert above == pytest.approx(row["measured_mb"] - row["weights_mb"], rel=0.25)


@pytest.mark.parametrize("row", rows(), ids=label)
def test_measured_seconds_are_met_within_15_percent(row: dict[str, Any]) -> None:
    """In processor time: the clock's depends on who else uses the machine."""
    seconds = predicted_seconds(
        row["forward_s"], plain=0, trained=2, checkpointing=row["checkpointing"]
    )
    assert seconds == pytest.approx(row["measured_s"], rel=0.15)


def test_a_gigabyte_is_that_of_graphics_cards() -> None:
    assert gigabytes(24 * 2**30) == "24.0 GB"
