"""Erasure Report: the same noise before and after, and numbers that mean what they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import comfy.clip_vision
import graph
import pytest
import torch
from eraseanything_pack.erase_engine.contact_sheet import CELL, GAP, LINE, MARGIN, image_of
from eraseanything_pack.nodes.report.report import WHAT_DIFFERS, ErasureReport, describe
from eraseanything_pack.nodes.report.sheet import HIGH, WIDE, Pair, draw_report
from eraseanything_pack.tinyworld.models import build_vae, load_weights
from make_docs import of_report

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
        "to erase: pixels differ by 0.0% on average",
        "  0.0%  a red star",
        "  0.0%  a blue star",
        "to keep: pixels differ by 0.0% on average",
        "  0.0%  a red circle",
        WHAT_DIFFERS,
    ]
    assert image.shape[1:3] == (2 * MARGIN + LINE + 2 * HIGH, 2 * MARGIN + 2 * WIDE)


def test_an_erasure_shows_and_the_page_gets_the_text(model: Any) -> None:
    lora = graph.connected(graph.lora_state(model, strength=1.0))
    output = report(model, graph.apply(model, lora=lora).args[0])
    image, text = output.args
    assert output.ui["text"] == (text,) and set(output.ui) == {"images", "animated", "text"}
    assert " 0.0%" not in text and text.endswith(WHAT_DIFFERS)
    top = MARGIN + 3 * LINE
    before, after = (
        image[0, top : top + CELL, left : left + CELL] for left in (MARGIN, MARGIN + CELL + GAP)
    )
    assert not torch.equal(before, after)


def test_change_is_a_share_of_the_whole_range() -> None:
    half = torch.full((4, 4, 3), 0.5)
    pair = Pair("to keep", "x", half, torch.ones(4, 4, 3))
    assert describe([pair]).startswith("to keep: pixels differ by 50.0% on average\n  50.0%  x\n")
    assert torch.isfinite(draw_report([Pair("to keep", "W" * 999, half, half * torch.nan)])).all()


@pytest.mark.parametrize(("to_erase", "to_keep"), [(1, 1), (2, 1), (2, 2), (8, 12), (3, 45)])
def test_a_sheet_has_the_shape_of_the_room_on_a_node(to_erase: int, to_keep: int) -> None:
    """Long and narrow it would be shown so small that nobody sees anything."""
    _, height, width, _ = draw_report(pairs_of(to_erase, to_keep)).shape
    assert 0.7 < width / height < 2


@pytest.mark.parametrize(("to_erase", "to_keep", "kept"), [(2, 2, 2), (8, 12, 8)])
def test_a_thumbnail_has_pictures_of_the_sheet(to_erase: int, to_keep: int, kept: int) -> None:
    """The first two pairs, and the first one to keep: before, then after."""
    pairs = pairs_of(to_erase, to_keep)
    shown = of_report(image_of(draw_report(pairs)[0]))
    some = [pairs[0], pairs[1], pairs[kept]]
    wanted = [pair.before for pair in some] + [pair.after for pair in some]
    found = [picture.getpixel((CELL // 2, CELL // 2)) for picture in shown]
    assert found == [image_of(each).getpixel((0, 0)) for each in wanted]


def pairs_of(to_erase: int, to_keep: int) -> list[Pair]:
    """Each of one colour before and another one after, which no other has."""
    roles = ["to erase"] * to_erase + ["to keep"] * to_keep
    colours = torch.rand(len(roles), 2, 1, 1, 3, generator=torch.Generator().manual_seed(0))
    plain = colours.expand(-1, -1, 4, 4, -1)
    return [Pair(role, "a star", *both) for role, both in zip(roles, plain, strict=True)]


def test_several_pictures_of_a_prompt_have_a_seed_each(model: Any) -> None:
    erased = graph.apply(model, lora=graph.connected(graph.lora_state(model))).args[0]
    single = [report(model, erased, seed=seed, keep_prompts="").args for seed in (4, 5)]
    image, text = report(model, erased, seed=4, pictures=2, keep_prompts="").args
    high, wide = slice(MARGIN + LINE, -MARGIN), slice(MARGIN - 1, -MARGIN - 1)  # below the title
    expected = torch.cat([one[0][:, high, wide] for one in single], dim=2)  # beside each other
    assert torch.equal(image[:, high, wide], expected)
    changes = [[share_of(line) for line in one[1].splitlines()] for one in single]
    means = [sum(two) / 2 for two in zip(*changes, strict=True)]
    assert [share_of(line) for line in text.splitlines()] == pytest.approx(means, abs=0.11)
    report(model, model, seed=2**64 - 1, pictures=2)


def share_of(line: str) -> float:
    return float(line.split("%")[0].split()[-1])


def test_a_vision_model_says_how_similar_pictures_are(model: Any, tmp_path: Path) -> None:
    lora = graph.connected(graph.lora_state(model, strength=1.0))
    erased = graph.apply(model, lora=lora).args[0]
    vision = tiny_vision(tmp_path)
    texts = [report(model, each, clip_vision=vision).args[1] for each in (model, erased)]
    same, other = ([line for line in text.splitlines() if line != WHAT_DIFFERS] for text in texts)
    assert all(line.count("0.0%, similarity 1.000") == 1 for line in same)
    found = [float(line.split("similarity ")[1].split()[0]) for line in other]
    assert len(found) == 5 and max(found) < 1
    assert found[0] == pytest.approx((found[1] + found[2]) / 2, abs=0.0011)


def tiny_vision(folder: Path) -> Any:
    """A random vision model as the host loads one."""
    sizes = {"hidden_size": 32, "intermediate_size": 64, "projection_dim": 16, "image_size": 56}
    kind = {
        "model_type": "clip_vision_model",
        "hidden_act": "quick_gelu",
        "num_attention_heads": 2,
        "num_hidden_layers": 2,
    }
    config = folder / "vision.json"
    config.write_text(json.dumps({**sizes, **kind, "num_channels": 3, "patch_size": 14}))
    vision = comfy.clip_vision.ClipVisionModel(str(config))
    generator = torch.Generator().manual_seed(0)
    state = vision.get_sd()
    for name, value in state.items():
        if value.ndim > 1:
            state[name] = torch.randn(value.shape, generator=generator) * 0.3
        elif value.is_floating_point():  # norms that do nothing, no biases
            state[name] = torch.full_like(value, float("norm" in name and "weight" in name))
    vision.load_sd(state)
    return vision


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
    with pytest.raises(ValueError, match=r"Got UNetModel, expected a Flux, SD3, .* model"):
        report(model, graph.unet())
