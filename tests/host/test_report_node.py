"""Erasure Report: the same noise before and after, and numbers that mean what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graph
import pytest
import torch
from eraseanything_pack.nodes.heatmap import CELL, GAP, LINE, MARGIN
from eraseanything_pack.nodes.report import ErasureReport, describe
from eraseanything_pack.nodes.report_sheet import Pair, draw_report
from eraseanything_pack.tinyworld.models import build_vae, load_weights

REPORT = {
    "erase_prompts": "a red star\n\na blue star",
    "keep_prompts": "a red circle",
    "steps": 2,
    "seed": 0,
    "resolution": 64,
}


@pytest.fixture(scope="module")
def model() -> Any:
    return graph.flux()


@pytest.fixture(autouse=True)
def _folders(loras: Path) -> None:
    """What the preview saves goes to a folder of the test's."""


@torch.inference_mode()
def report(model: Any, erased: Any, **inputs: Any) -> Any:
    vae = build_vae(load_weights("vae"))
    return ErasureReport.execute(model, erased, graph.clip(), vae, **{**REPORT, **inputs})


def test_a_model_and_itself_differ_in_nothing(model: Any) -> None:
    image, text = report(model, model).args
    assert text.splitlines() == [
        "to erase: changed 0.0% on average",
        "  0.0%  a red star",
        "  0.0%  a blue star",
        "to keep: changed 0.0% on average",
        "  0.0%  a red circle",
    ]
    assert image.shape[1] == 2 * MARGIN + LINE + 3 * (CELL + GAP)


def test_an_erasure_shows_and_the_page_gets_the_text(model: Any) -> None:
    lora = graph.connected(graph.lora_state(model, strength=1.0))
    output = report(model, graph.apply(model, lora=lora).args[0])
    image, text = output.args
    assert output.ui["text"] == (text,) and set(output.ui) == {"images", "animated", "text"}
    assert " 0.0%" not in text
    top = MARGIN + LINE
    before, after = (
        image[0, top : top + CELL, left : left + CELL] for left in (MARGIN, MARGIN + CELL + GAP)
    )
    assert not torch.equal(before, after)


def test_change_is_a_share_of_the_whole_range() -> None:
    half = torch.full((4, 4, 3), 0.5)
    pair = Pair("to keep", "x", half, torch.ones(4, 4, 3))
    assert describe([pair]) == "to keep: changed 50.0% on average\n  50.0%  x"
    assert torch.isfinite(draw_report([Pair("to keep", "W" * 999, half, half * torch.nan)])).all()


def test_seeds_decide_the_noise(model: Any) -> None:
    first, again, other = (report(model, model, seed=seed).args[0] for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"erase_prompts": " \n", "keep_prompts": ""}, "Got no prompts, expected at least one"),
        ({"resolution": 72}, "Got resolution 72 pixels, expected a multiple of 16"),
    ],
)
def test_inputs_of_the_report(model: Any, inputs: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        report(model, model, **inputs)


def test_a_model_that_is_not_flux(model: Any) -> None:
    with pytest.raises(ValueError, match=r"Got UNetModel, expected a Flux model"):
        report(model, graph.unet())
