"""The erasure benchmark's own arithmetic, on pictures and numbers whose figures are known."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from eraseanything_pack.benchmarks import several
from eraseanything_pack.benchmarks.erasure.attacks import (
    RADIUS,
    attacked_text,
    other_wordings,
    paths_of,
)
from eraseanything_pack.benchmarks.erasure.figures import (
    drift,
    frechet_distance,
    means,
    spread,
    worst,
)
from eraseanything_pack.benchmarks.erasure.measure import Case, quality
from eraseanything_pack.benchmarks.erasure.methods import CONCEPTS, FAST, METHODS, config_of
from eraseanything_pack.benchmarks.erasure.page import PAGE, page, summary
from eraseanything_pack.benchmarks.erasure.table import table
from eraseanything_pack.erase_engine.config import EraseConfig, LossWeights
from eraseanything_pack.erase_engine.interfaces import Conditioning
from eraseanything_pack.tinyworld.judge import Judge
from eraseanything_pack.tinyworld.pictures import render
from eraseanything_pack.tinyworld.vocabulary import SHAPE_NAMES, family
from torch import Generator, Tensor


class DrawingWorld:
    """A world whose judge is real; its pictures are the test's."""

    judge = Judge.load()

    def plan(self, concept: str, *, seed: int) -> Any:
        return SimpleNamespace(anchor="diamond")


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(DrawingWorld(), "star", 0, 40)  # type: ignore[arg-type]


def drawn(case: Case, kind: str, *, star_as: str | None = None) -> Tensor:
    """Just what each prompt asks for, or with another shape in the star's place."""
    star = SHAPE_NAMES.index("star")
    shape = star if star_as is None else SHAPE_NAMES.index(star_as)
    scenes = [
        replace(
            prompt.scene,
            things=tuple(
                replace(thing, shape=shape) if thing.shape == star else thing
                for thing in prompt.scene.things
            ),
        )
        for prompt in case.prompts[kind]
    ]
    return render(scenes, Generator().manual_seed(1))


KINDS = ("named", "synonyms", "others", "anchors")


def test_pictures_that_obey_every_word_give_a_base_model_s_figures(case: Case) -> None:
    pictures = {kind: drawn(case, kind) for kind in KINDS}
    figures = quality(case, pictures, pictures)
    assert figures["acc_e"] == figures["acc_g"] == figures["floor"] == 100
    assert figures["acc_ir"] > 99 and figures["acc_co"] > 99
    assert figures["drift"] == 0 and figures["fjd"] == pytest.approx(0, abs=1e-3)


def test_pictures_of_the_anchor_give_a_perfect_erasure_s_figures(case: Case) -> None:
    base = {kind: drawn(case, kind) for kind in ("others",)}
    base["anchors"] = drawn(case, "anchors", star_as="diamond")
    erased = {kind: drawn(case, kind, star_as="diamond") for kind in KINDS}
    figures = quality(case, erased, base)
    assert figures["acc_e"] == figures["acc_g"] == figures["floor"] == 0
    assert figures["acc_ir"] > 99 and figures["acc_co"] > 99


def test_the_floor_and_acc_co_are_of_their_own_pictures(case: Case) -> None:
    right = {kind: drawn(case, kind) for kind in KINDS}
    white = {**right, "named": torch.ones_like(right["named"])}
    figures = quality(case, white, {**right, "anchors": drawn(case, "anchors", star_as="heart")})
    assert figures["floor"] == 0 and figures["acc_co"] < 40
    assert figures["acc_g"] == 100 and figures["acc_ir"] > 99


def test_prompts_with_other_words_ask_for_the_same_picture(case: Case) -> None:
    for named, synonym, anchor in zip(
        *(case.prompts[kind] for kind in ("named", "synonyms", "anchors")), strict=True
    ):
        assert "star" in named.text and "star" not in synonym.text
        assert "diamond" in anchor.text and "star" not in anchor.text
        assert named.scene == synonym.scene == anchor.scene


def test_drift_is_a_mean_square() -> None:
    pictures = torch.full((3, 3, 4, 4), 0.5)
    assert drift(pictures + 0.2, pictures) == pytest.approx(0.04)


def test_the_frechet_distance_of_gaussians() -> None:
    """|m1 - m2|^2 + (s1 - s2)^2 in each direction."""
    sample = torch.randn(200, 3, generator=Generator().manual_seed(0))
    assert frechet_distance(sample, sample) == pytest.approx(0, abs=1e-6)
    assert frechet_distance(sample, sample + 2) == pytest.approx(12, rel=1e-4)
    variance = sample.double().var(dim=0).sum().item()
    assert frechet_distance(sample, 3 * sample - 2 * sample.mean(dim=0)) == pytest.approx(
        4 * variance, rel=1e-4
    )
    few = torch.randn(10, 64, generator=Generator().manual_seed(1))
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6)


ROWS = [
    {"concept": "star", "seed": 0, "acc_e": 0.0, "acc_ir": 98.0},
    {"concept": "star", "seed": 1, "acc_e": 2.0, "acc_ir": 96.0},
    {"concept": "red", "seed": 0, "acc_e": 4.0, "acc_ir": 100.0},
    {"concept": "red", "seed": 1, "acc_e": 10.0, "acc_ir": 99.0},
]


def test_means_spread_over_seeds_and_worst_concept() -> None:
    assert means(ROWS) == {"acc_e": 4.0, "acc_ir": 98.25}
    assert spread(ROWS) == {"acc_e": 2.0, "acc_ir": 0.75}  # seeds: 2 and 6; 99 and 97.5
    assert worst(ROWS) == {"acc_e": 7.0, "acc_ir": 97.0}


def test_the_table_shows_means_and_spread() -> None:
    text = table([{**row, "method": "fast"} for row in ROWS])
    assert "| **fast** | 4.0 ± 2.0 |" in text and "| star | 1.0 ± 1.0 |" in text


@pytest.mark.parametrize("method", [name for name in METHODS if name not in ("base", "paper")])
def test_every_method_sees_as_many_samples(method: str) -> None:
    config = config_of(method, 3)
    assert (config.steps, config.batch, config.seed) == (FAST.steps, FAST.batch, 3)


def test_paper_is_the_nodes_recipe() -> None:
    assert config_of("paper", 3) == EraseConfig.from_recipe("paper", seed=3)


def test_rivals_are_an_erase_loss_by_itself() -> None:
    esd, ablate, gem = (config_of(name, 0) for name in ("esd", "ablate", "gem"))
    assert esd.weights == ablate.weights == gem.weights == LossWeights(esd=1, keep=0)
    assert (esd.negative_guidance, ablate.negative_guidance) == (1.0, 0.0)
    assert (esd.erase_form, gem.erase_form, gem.early) == ("esd", "hinge", 0.5)


def test_there_are_enough_concepts_of_every_kind() -> None:
    kinds = [family(concept) for concept in CONCEPTS]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "shape": 8,
        "style": 4,
        "colour": 4,
        "relation": 4,
    }


def test_the_white_box_attack_moves_the_concept_s_tokens_alone_and_not_far(small_flow: Any) -> None:
    base = type(small_flow)(seed=1)
    generator = Generator().manual_seed(0)
    cond = Conditioning.stacked(torch.randn(3, 6, 8, generator=generator), torch.zeros(3, 8))
    tokens = torch.tensor([[1, 2], [0, -1], [5, -1]])
    paths = paths_of(base, cond, torch.randn(3, 4, 4, 4, generator=generator))
    moved = attacked_text(small_flow, cond, tokens, paths, generator)
    change = (moved.text - cond.text).norm(dim=-1) / cond.text.norm(dim=-1)
    hit = torch.zeros(3, 6, dtype=torch.bool)
    hit[[0, 0, 1, 2], [1, 2, 0, 5]] = True
    assert not change[~hit].any() and change[hit].min() > 0.05
    assert change.max() <= RADIUS * 1.0001
    assert distance(small_flow, moved, paths) < 0.97 * distance(small_flow, cond, paths)


@torch.no_grad()
def distance(model: Any, cond: Conditioning, paths: Any) -> float:
    """How differently the model moves on the first half of the paths."""
    gaps = [
        (
            model.velocity(paths.states[:, s], paths.times[s].expand(3), cond)
            - paths.teacher_velocity[:, s, 0]
        )
        for s in range(len(paths.times) // 2)
    ]
    return torch.stack(gaps).square().mean().item()


def test_the_black_box_attack_says_the_concept_otherwise() -> None:
    texts = other_wordings(
        "a red star above a ring", "star", ("pentagram",), noun=True, generator=Generator()
    )
    assert texts[0] == "a red pentagram above a ring"
    assert texts[-1] == "a red star above a ring, star, star"
    assert len(set(texts)) == len(texts) == 5


def test_the_documentation_has_the_figures_of_several_concepts() -> None:
    rows = json.loads(several.RESULT.read_text(encoding="utf-8"))["rows"]
    text = (PAGE.parent / "measurements.md").read_text(encoding="utf-8")
    assert several.table(rows) in text


def test_the_pages_figures_are_those_of_the_committed_rows() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
    assert summary() in (PAGE.parents[1] / "README.md").read_text(encoding="utf-8")
