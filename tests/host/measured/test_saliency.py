"""Saliency finds what is drawn: on the tiny Flux, against the exact masks of drawn scenes."""

from __future__ import annotations

import json

import pytest
import torch
from eraseanything_pack.benchmarks.saliency import (
    ERASED,
    LAYOUTS,
    METHODS,
    PHRASE,
    SHAPE,
    STEPS,
    Example,
    World,
    examples,
    measure_overlaps,
    overlap,
    sums_by_kind,
)
from eraseanything_pack.erase_engine.attention.query import VIEWS
from eraseanything_pack.tinyworld.vocabulary import SHAPE_NAMES, Scene, Thing


def test_masks_are_where_the_things_are() -> None:
    """Every pixel of a plain shape has its colour; the first thing's mask comes first."""
    cross, ring = SHAPE_NAMES.index("cross"), SHAPE_NAMES.index("ring")
    things = (Thing(cross, 0, 0), Thing(ring, 1, 0))  # red, blue
    example = Example.of(Scene(things, 2, 0), seed=3)  # left of, on white
    assert example.prompt == "a red cross left of a blue ring on a white background"
    assert (example.words(PHRASE), example.words(SHAPE)) == (
        ("red cross", "blue ring"),
        ("cross", "ring"),
    )
    for mask, channel in zip(example.masks, (0, 2), strict=True):
        picture = example.picture[0]
        inside, outside = picture[:, mask].mean(dim=1), picture[:, ~(sum(example.masks) > 0)]
        assert inside.argmax() == channel and inside[channel] > 0.8 and inside.min() < 0.3
        assert outside.mean() > 0.9
    assert overlap(example.masks[0].float(), example.masks[0]) == 1
    assert overlap(example.masks[0].float(), example.masks[1]) == 0


def test_examples_go_through_all_shapes() -> None:
    for layout, things in (("one thing", 1), ("two things", 2)):
        found = list(examples(layout, 2, seed=0))
        assert [each.shapes[0] for each in found] == list(SHAPE_NAMES) * 2
        assert {len(each.masks) for each in found} == {things}


@pytest.mark.thorough
def test_saliency_finds_things_better_than_the_training_signal() -> None:
    with torch.inference_mode(False):
        found = measure_overlaps(World(), 1, seed=100)
    assert STEPS == 8
    for layout in LAYOUTS:
        means = [found[layout][PHRASE][view]["mean"] for view in ("saliency", "training signal")]
        assert means[0] > 0.6 and means[0] > means[1] + 0.1


def test_each_word_counts_in_its_kind() -> None:
    prompts = ["an outlined red star left of a blue ring", "a picture of an outlined red star"]
    with torch.inference_mode(False), torch.no_grad():
        world = World()
        with world.erased(None) as backend:
            sums = sums_by_kind(backend, world, prompts, "outlined", seed=0)
    kinds = {"articles", "colours", "shapes", "relations", "more words"}
    assert set(sums) == kinds | {"concept", "other words"}
    assert all(0 < value < len(prompts) for value in sums.values())
    assert sum(sums[kind] for kind in kinds) == pytest.approx(sums["other words"])


def test_what_the_documentation_says_was_measured() -> None:
    from eraseanything_pack.benchmarks.pack import ROOT

    result = json.loads((ROOT / "benchmarks/results/saliency.json").read_text(encoding="utf-8"))
    text = (ROOT / "docs/measurements.md").read_text(encoding="utf-8")
    for layout in LAYOUTS:
        for looked_for in (PHRASE, SHAPE):
            by_view = result["overlap"][layout][looked_for]
            means = " | ".join(str(by_view[view]["mean"]) for view in VIEWS)
            assert f"| {layout}, {looked_for} | {means} |" in text
    lines = []
    for concept in ERASED:
        cells = []
        for method in METHODS:
            left = result["left of the attention"][method][concept]
            own, together = left.pop("concept"), left.pop("other words")
            kind = min(left, key=lambda kind: left[kind])
            cells += [own, together, f"{left[kind]} ({kind})"]
            assert left[kind] >= 0.9 if method == "fast" else own <= 1 / 3
        lines.append(f"| {concept} | {' | '.join(map(str, cells))} |")
    assert "\n".join(lines) in text
