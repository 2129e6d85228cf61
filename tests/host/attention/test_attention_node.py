"""Attention Map Preview: the sheet, its colours and its numbers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import graph
import pytest
import torch
from eraseanything_pack.erase_engine import contact_sheet
from eraseanything_pack.erase_engine.attention.query import default_blocks
from eraseanything_pack.erase_engine.concepts.planner import plan_concept
from eraseanything_pack.erase_engine.concepts.request import ConceptRequest
from eraseanything_pack.erase_engine.config import EraseConfig, LoraConfig, LossWeights
from eraseanything_pack.erase_engine.training.encoded_prompts import encode_prompts
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.nodes.attention import heatmap
from eraseanything_pack.nodes.attention import preview as attention
from eraseanything_pack.nodes.host.encode import encoder_for, ordinary_tensors
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.tinyworld.models import build_vae, load_weights
from eraseanything_pack.tinyworld.planning import TINY_WORLD

CELL = contact_sheet.CELL + contact_sheet.GAP
BLIND = EraseConfig(
    weights=LossWeights(esd=0.0, attention=1.0, keep=0.0),
    learning_rate=0.02,
    steps=120,
    trajectories=8,
    trajectory_steps=2,
    width=64,
    height=64,
    lora=LoraConfig(rank=4),
)


@pytest.fixture(scope="module")
def model() -> Any:
    return graph.flux()


@pytest.fixture(scope="module")
def blind(model: Any) -> Any:
    """The same MODEL with a LoRA that turns attention away from "star"."""
    request = ConceptRequest(concept="star", prompts=(graph.PROMPT,), pairs=4)
    with ordinary_tensors():
        encoder = encoder_for(graph.clip())
        plan = plan_concept(request, encoder, vocabulary=TINY_WORLD)
        encoded = encode_prompts(plan, encoder, contrast=False)
    with training_session(model) as backend:
        generator = torch.Generator().manual_seed(0)
        erasure = train_erasure(backend, encoded, BLIND, generator=generator)
    return graph.apply(model, lora=graph.connected(erasure.state)).args[0]


@pytest.fixture(autouse=True)
def _folders(loras: Path) -> None:
    """What the preview saves goes to a folder of the test's."""


def rows(image: torch.Tensor) -> int:
    """How many rows of cells a sheet has."""
    return round((image.shape[1] - 2 * contact_sheet.MARGIN - 3 * contact_sheet.LINE) / CELL)


def cells(image: torch.Tensor, row: int, *, columns: int) -> list[torch.Tensor]:
    """A row's cells, (CELL, CELL, 3) in 0..1."""
    top = contact_sheet.MARGIN + 2 * contact_sheet.LINE + row * CELL
    lefts = [
        contact_sheet.MARGIN + contact_sheet.LABEL + column * CELL for column in range(columns)
    ]
    return [
        image[0, top : top + contact_sheet.CELL, left : left + contact_sheet.CELL] for left in lefts
    ]


def masses(text: str) -> dict[str, list[float]]:
    """Each word's per cents, in the order of the models."""
    lines = (line.split(": ") for line in text.splitlines())
    return {word: [float(n) for n in re.findall(r"([\d.]+)%", rest)] for word, rest in lines}


def test_the_sheet_is_an_image(model: Any) -> None:
    image, text = graph.look(model)
    assert image.dtype == torch.float32 and image.ndim == 4
    assert image.shape[0] == 1 and image.shape[3] == 3
    assert image.min() >= 0 and image.max() <= 1
    assert rows(image) == 1
    found = masses(text)
    assert list(found) == ["star", "red"]
    assert all(len(each) == 1 and 0 < each[0] < 100 for each in found.values())


def test_two_models_make_three_rows(model: Any, blind: Any) -> None:
    image, _ = graph.look(model, erased=blind)
    assert rows(image) == 3


def test_equal_models_differ_in_nothing(model: Any) -> None:
    image, text = graph.look(model, erased=model)
    neutral = torch.tensor(heatmap.DIVERGING[2]) / 255
    for cell in cells(image, 2, columns=2):
        assert torch.equal(cell, neutral.expand_as(cell))
    before, after = (cells(image, row, columns=2) for row in (0, 1))
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(one == other for one, other in masses(text).values())


def test_a_blind_model_looks_away_from_the_word(model: Any, blind: Any) -> None:
    image, text = graph.look(model, erased=blind)
    before, after = masses(text)["star"]
    assert after < 0.7 * before
    star, _ = cells(image, 2, columns=2)
    neutral = torch.tensor(heatmap.DIVERGING[2]) / 255
    assert (star - neutral)[..., 0].mean() < -0.05  # towards blue: attention has gone


def test_maps_share_one_scale(model: Any, blind: Any) -> None:
    """The brightest place of all maps has the scale's last colour, and no map its own scale."""
    image, _ = graph.look(model, erased=blind)
    brightness = [cell[..., 0].max() for row in (0, 1) for cell in cells(image, row, columns=2)]
    assert max(brightness) > 0.95
    assert min(brightness) < 0.9


def test_pictures_stand_beside_the_maps(model: Any, blind: Any) -> None:
    words = "star\nred\nwhite"
    vae = build_vae(load_weights("vae"))
    without, text = graph.look(model, erased=blind, words=words)
    image, same = graph.look(model, erased=blind, words=words, vae=vae)
    assert image.shape[2] - without.shape[2] == CELL and rows(image) == 3
    assert text == same
    first = [cells(image, row, columns=1)[0] for row in range(3)]
    assert first[0].std() > 0.01 and not torch.equal(first[0], first[1])
    paper = torch.tensor(contact_sheet.PAPER) / 255
    assert torch.equal(first[2], paper.expand_as(first[2]))  # there is no picture of a difference


def test_no_words_means_every_word_once(model: Any) -> None:
    _, text = graph.look(model, prompt="A red star, a (blue) star!", words=" \n")
    assert list(masses(text)) == ["a", "red", "star", "blue"]


def test_the_preview_looks_as_training_does(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def session(*args: Any, **options: Any) -> Any:
        seen.append(options["guidance"])
        return training_session(*args, **options)

    monkeypatch.setattr(attention, "training_session", session)
    graph.look(model)
    assert seen == [EraseConfig().guidance]


def test_saliency_says_what_each_word_is_held_against(model: Any) -> None:
    _, text = graph.look(model, view="saliency")
    lines = text.splitlines()
    assert lines[0].startswith("star: before ")
    assert lines[0].endswith("% (against a, on, white, background)")  # not red: it is the star's
    assert all(0 < each[0] < 100 for each in masses(text).values())
    _, chosen = graph.look(model, view="saliency", contrast="white\nred", words="star")
    assert chosen.endswith("% (against white, red)")


def test_saliency_is_another_map_with_its_own_unit(model: Any) -> None:
    signal, signal_text = graph.look(model)
    image, text = graph.look(model, view="saliency")
    pairs = zip(cells(image, 0, columns=2), cells(signal, 0, columns=2), strict=True)
    assert not any(torch.equal(*pair) for pair in pairs)
    assert masses(text)["star"] != masses(signal_text)["star"]


def test_shares_of_all_words_make_up_the_whole(model: Any) -> None:
    """Three words held against each other: their shares of each place add up to one."""
    _, text = graph.look(
        model, view="saliency", words="star\nred\nwhite", contrast="star\nred\nwhite"
    )
    assert sum(each[0] for each in masses(text).values()) == pytest.approx(100, abs=0.03)


def test_blocks_are_averaged(model: Any) -> None:
    found = [masses(graph.look(model, blocks=blocks)[1])["star"][0] for blocks in ("0", "1", "")]
    assert found[0] != found[1]
    assert found[2] == pytest.approx((found[0] + found[1]) / 2, abs=0.011)
    same = [graph.look(model, blocks=blocks)[0] for blocks in ("", "0-1", "1, 0")]
    assert torch.equal(same[0], same[1]) and torch.equal(same[0], same[2])


def test_saliency_looks_into_the_middle_of_the_model() -> None:
    assert default_blocks("saliency", 19, 57) == tuple(range(9, 29))
    assert default_blocks("training signal", 19, 57) == tuple(range(19))
    assert default_blocks("saliency", 1, 1) == (0,)


def test_another_seed_is_another_picture(model: Any) -> None:
    first, again, other = (graph.look(model, seed=seed)[0] for seed in (0, 0, 2**64 - 1))
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_long_texts_are_shortened_to_fit() -> None:
    """Nothing of a label lies in the next column or outside the sheet."""
    wide = "W" * 60
    sheet = heatmap.Sheet(wide * 5, [wide, wide], {"before": torch.rand(2, 4, 4)})
    image = heatmap.draw_sheet(sheet)
    paper = (torch.tensor(contact_sheet.PAPER) / 255).expand(contact_sheet.GAP // 2, 3)
    line = slice(
        contact_sheet.MARGIN + contact_sheet.LINE, contact_sheet.MARGIN + 2 * contact_sheet.LINE - 1
    )
    for column in (1, 2):
        left = contact_sheet.MARGIN + contact_sheet.LABEL + column * CELL - contact_sheet.GAP // 2
        gap = image[0, line, left : left + contact_sheet.GAP // 2]
        assert torch.equal(gap, paper.expand_as(gap))
    right = image[0, : contact_sheet.MARGIN + contact_sheet.LINE, -contact_sheet.MARGIN :]
    assert torch.equal(right, (torch.tensor(contact_sheet.PAPER) / 255).expand_as(right))


def test_the_words_under_the_maps_fit_the_narrowest_sheet(model: Any, blind: Any) -> None:
    image, _ = graph.look(model, erased=blind, words="star")
    edge = image[0, -3 * contact_sheet.LINE :, -contact_sheet.MARGIN :]
    assert torch.equal(edge, (torch.tensor(contact_sheet.PAPER) / 255).expand_as(edge))


def test_a_sheet_of_nothing_can_be_drawn() -> None:
    """No attention anywhere: no division by the brightest place."""
    sheet = heatmap.Sheet("x", ["x"], {"before": torch.zeros(1, 4, 4)})
    assert torch.isfinite(heatmap.draw_sheet(sheet)).all()
