"""What the page gets of attention maps: all of it, on one scale, and small."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import graph
import numpy
import pytest
import torch
from eraseanything_pack.erase_engine.attention.maps import AttentionMaps
from eraseanything_pack.erase_engine.attention.query import AttentionQuery, Word
from eraseanything_pack.nodes.attention.payload import LONGEST_SIDE, MOST_PLACES, page_maps
from PIL import Image

LOOK = AttentionQuery(
    (Word("star", (1,)), Word("red", (0,), (Word("a", (2,)), Word("on", (3,))))), "saliency", (0,)
)


def found(steps: int = 3, side: int = 4, *, scale: float = 0.5, seed: int = 0) -> AttentionMaps:
    generator = torch.Generator().manual_seed(seed)
    maps = scale * torch.rand(steps, 2, side, side, generator=generator)
    return AttentionMaps(maps, torch.zeros(1, 16, 2 * side, 2 * side))


def atlas(model: dict[str, Any]) -> torch.Tensor:
    """A model's grey picture, in 0..1."""
    kind, data = model["atlas"].split(",")
    assert kind == "data:image/png;base64"
    image = Image.open(io.BytesIO(base64.b64decode(data)))
    assert image.mode == "L"
    return torch.from_numpy(numpy.array(image)).float() / 255


def test_every_map_is_in_its_place_on_one_scale() -> None:
    models = {"before": found(), "after": found(scale=0.1, seed=1)}
    data = page_maps(LOOK, models, {}, "a red star")
    assert (data["grid"], data["steps"], data["total"]) == ([4, 4], [1, 2, 3], 3)
    for model, maps in zip(data["models"], models.values(), strict=True):
        sheet = atlas(model) * data["highest"]
        assert sheet.shape == (4 * 4, 2 * 4) and model["picture"] is None
        for row, each in enumerate([maps.maps, *maps.steps]):
            for column, expected in enumerate(each):
                cell = sheet[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
                clipped = expected.clamp(max=data["highest"])
                torch.testing.assert_close(cell, clipped, rtol=0, atol=0.003)
    assert data["highest"] == pytest.approx(models["before"].maps.max().item(), rel=1e-3)


def test_words_come_with_their_numbers_and_rivals() -> None:
    maps = found()
    star, red = page_maps(LOOK, {"before": maps}, {}, "a red star")["words"]
    assert (star["name"], star["against"]) == ("star", [])
    assert (red["name"], red["against"]) == ("red", ["a", "on"])
    assert red["means"]["before"] == pytest.approx(maps.steps[:, 1].mean().item(), rel=1e-3)


def test_it_begins_with_the_clearest_word() -> None:
    maps = found()
    maps.steps[:, 0] = 0.9  # everywhere alike: nothing to see
    assert page_maps(LOOK, {"before": maps}, {}, "")["first"] == 1


def test_large_runs_stay_small() -> None:
    """Finer maps are averaged, and steps left out evenly, but for the first and the last."""
    data = page_maps(LOOK, {"before": found(1000, 64)}, {}, "")
    assert data["grid"] == [LONGEST_SIDE, LONGEST_SIDE]
    assert (data["steps"][0], data["steps"][-1], data["total"]) == (1, 1000, 1000)
    assert len(data["steps"]) * 2 * LONGEST_SIDE**2 <= MOST_PLACES
    assert len(json.dumps(data)) < 1.5 * MOST_PLACES


def test_nothing_anywhere_is_still_json() -> None:
    data = page_maps(LOOK, {"before": found(scale=0.0)}, {}, "")
    json.dumps(data, allow_nan=False)
    assert atlas(data["models"][0]).max() == 0


def test_the_node_gives_the_page_what_its_sheet_shows(loras: Path) -> None:
    shown = graph.looked(graph.flux(), words="star\nred").ui
    assert set(shown) == {"images", "animated", "eraseanything_maps"}
    (data,) = shown["eraseanything_maps"]
    json.dumps(data, allow_nan=False)
    assert [word["name"] for word in data["words"]] == ["star", "red"]
    assert [model["name"] for model in data["models"]] == ["before"]
    assert (data["prompt"], data["view"]) == (graph.PROMPT, "training signal")
    assert data["note"] == ""
