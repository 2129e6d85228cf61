"""The erasure benchmark's own arithmetic, on pictures and numbers whose figures are known."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest
import torch
from eraseanything_pack.benchmarks import negative, several
from eraseanything_pack.benchmarks.erasure import sweep
from eraseanything_pack.benchmarks.erasure.attacks import (
    Target,
    WhiteBox,
    attacked_text,
    other_wordings,
    paths_of,
    with_token,
)
from eraseanything_pack.benchmarks.erasure.figures import (
    drift,
    frechet_distance,
    means,
    spread,
    worst,
    worst_at,
)
from eraseanything_pack.benchmarks.erasure.methods import (
    ABLATION,
    LOSSES,
    RATES,
    RIVALS,
    config_of,
)
from eraseanything_pack.benchmarks.erasure.page import (
    PAGE,
    by_second_judge,
    committed,
    page,
    summary,
)
from eraseanything_pack.benchmarks.erasure.scenery import TINY_SCENERY
from eraseanything_pack.benchmarks.erasure.table import table
from eraseanything_pack.erase_engine.config import RECIPES, EraseConfig, LossWeights
from eraseanything_pack.erase_engine.interfaces import Conditioning
from eraseanything_pack.tinyworld.phrases import kind_of
from torch import Generator

README = PAGE.parents[1] / "README.md"


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


def test_means_spread_over_seeds_and_the_worst_row() -> None:
    assert means(ROWS) == {"acc_e": 4.0, "acc_ir": 98.25}
    assert spread(ROWS) == {"acc_e": 2.0, "acc_ir": 0.75}  # seeds: 2 and 6; 99 and 97.5
    assert worst(ROWS) == {"acc_e": 10.0, "acc_ir": 96.0}
    assert worst_at(ROWS) == {"acc_e": "red, seed 1", "acc_ir": "star, seed 1"}


def test_the_table_shows_means_and_spread_of_the_figures_that_rows_have() -> None:
    text = table([{**row, "method": "fast"} for row in ROWS])
    assert "| **fast** | 4.0 ± 2.0 |" in text and "| star | 1.0 ± 1.0 |" in text
    assert "parts" not in text


@pytest.mark.parametrize("method", [*RIVALS, *RATES])
def test_every_rival_sees_as_many_samples_as_fast(method: str) -> None:
    config, fast = config_of(method, 3), config_of("fast 0.1", 3)
    assert (config.steps, config.batch, config.seed) == (fast.steps, fast.batch, 3)


def test_paper_is_the_nodes_recipe() -> None:
    assert config_of("paper", 3) == EraseConfig.from_recipe("paper", seed=3)


def test_the_ablation_takes_one_loss_of_the_paper_away_at_a_time() -> None:
    paper = config_of("paper", 3)
    assert {f"paper, no {loss}" for loss in LOSSES} == {m for m in ABLATION if "paper" in m}
    for loss, name in LOSSES.items():
        assert getattr(paper.weights, name) > 0
        weights = replace(paper.weights, **{name: 0.0})
        assert config_of(f"paper, no {loss}", 3) == replace(paper, weights=weights)


def test_the_ablation_of_fast_trains_whatever_is_solved() -> None:
    fast, trained = config_of("fast", 3), config_of("fast, trained", 3)
    assert trained == replace(fast, entrance=replace(fast.entrance, most_unsolved=0.0))
    kept = config_of("trained, no L_keep", 3)
    assert kept == replace(trained, weights=replace(fast.weights, keep=0.0))
    for loss in ("L_attn", "L_lora", "L_rsc"):
        weights = config_of(f"trained, with {loss}", 3).weights
        name = LOSSES[loss]
        assert getattr(weights, name) > getattr(fast.weights, name) == 0
        assert replace(weights, **{name: 0.0}) == fast.weights
    attention = config_of("trained, L_attn for L_esd", 3)
    assert (attention.weights.esd, attention.weights.attention) == (0, 1)
    with_it = config_of("trained, with L_attn", 3)
    assert attention.attention_others == with_it.attention_others == 2 > trained.attention_others


def test_rivals_are_an_erase_loss_by_itself() -> None:
    esd, ablate, gem = (config_of(name, 0) for name in ("esd", "ablate", "gem"))
    assert esd.weights == ablate.weights == gem.weights == LossWeights(esd=1, keep=0)
    assert (esd.negative_guidance, ablate.negative_guidance) == (1.0, 0.0)
    assert (esd.erase_form, gem.erase_form, gem.early) == ("esd", "hinge", 0.5)


def test_a_fair_rival_differs_from_fast_in_its_idea_and_its_rate_alone() -> None:
    fast = config_of("fast 0.1", 0)
    plain = replace(fast, attack=0.0, weights=replace(fast.weights, attention=0.0))
    rates = {name: {"learning_rate": rate} for name, rate in RATES.items()}
    assert config_of("ablate+", 0) == replace(plain, **rates["ablate+"])
    assert config_of("esd+", 0) == replace(plain, negative_guidance=1.0, **rates["esd+"])
    gem = {"negative_guidance": 1.0, "erase_form": "hinge", "early": 0.5}
    assert config_of("gem+", 0) == replace(plain, **gem, **rates["gem+"])


def test_the_fair_rivals_have_the_rates_that_the_sweep_found() -> None:
    """None of them the lowest or the highest tried, and none on a concept of the tables."""
    rows = json.loads(sweep.RESULT.read_text(encoding="utf-8"))["rows"]
    assert sweep.chosen(rows) == RATES
    assert {row["rate"] for row in rows} == {*sweep.TRIED}
    assert {*RATES.values()} <= {*sorted(sweep.TRIED)[1:-1]}
    assert not {row["concept"] for row in rows} & {*TINY_SCENERY.concepts}


def test_there_are_enough_concepts_of_every_kind() -> None:
    kinds = [kind_of(concept) for concept in TINY_SCENERY.concepts]
    assert {kind: kinds.count(kind) for kind in set(kinds)} == {
        "shape": 8,
        "style": 4,
        "colour": 4,
        "relation": 4,
        "phrase": 6,
    }


def target(base: Any) -> Target:
    """Three prompts of six tokens, with two, one and one of the concept's."""
    generator = Generator().manual_seed(0)
    text, pooled = (
        torch.randn(3, 6, 8, generator=generator),
        torch.randn(3, 8, generator=generator),
    )
    cond = Conditioning.stacked(text, pooled)
    noise = torch.randn(3, 4, 4, 4, generator=generator)
    tokens = torch.tensor([[1, 2], [0, -1], [5, -1]])
    return Target((), cond, tokens, noise, paths_of(base, cond, noise, cond.prompts[0]))


@pytest.mark.parametrize("where", ["concept", "all", "pooled"])
def test_a_white_box_attack_moves_what_it_may_and_not_far(small_flow: Any, where: str) -> None:
    aim = target(type(small_flow)(seed=1))
    attack = WhiteBox(where, 0.5)
    moved = attacked_text(small_flow, aim, attack, Generator().manual_seed(0))
    text = (moved.text - aim.cond.text).norm(dim=-1) / aim.cond.text.norm(dim=-1)
    pooled = (moved.pooled - aim.cond.pooled).norm(dim=-1) / aim.cond.pooled.norm(dim=-1)
    hit = torch.full((3, 6), where == "all")
    if where == "concept":
        hit[[0, 0, 1, 2], [1, 2, 0, 5]] = True
    assert not text[~hit].any() and (not hit.any() or text[hit].min() > 0.05)
    assert pooled.any() == (where == "pooled")
    assert max(text.max(), pooled.max()) <= 0.5001
    assert distance(small_flow, moved, aim.paths) < 0.98 * distance(small_flow, aim.cond, aim.paths)


def test_an_attack_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Got an attack on 'somewhere' .* expected 'concept'"):
        WhiteBox("somewhere", 0.5)


def test_a_learned_token_stands_where_the_concept_stood(small_flow: Any) -> None:
    aim = target(small_flow)
    word = torch.stack([torch.full((8,), 7.0), torch.full((8,), 9.0)])
    text = with_token(aim.cond, aim.tokens, word).text
    assert text[0, 1].eq(7).all() and text[0, 2].eq(9).all() and text[2, 5].eq(7).all()
    kept = [(0, 0), (0, 3), (1, 1), (1, 5), (2, 0)]
    assert all(torch.equal(text[at], aim.cond.text[at]) for at in kept)


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


def test_a_recipe_is_the_nodes_by_its_name() -> None:
    for name in RECIPES:
        assert config_of(name, 3) == EraseConfig.from_recipe(name, seed=3)


def test_the_documentation_has_the_figures_of_several_concepts() -> None:
    for name, page_name in (("several", "measurements.md"), ("several_gallery", "gallery.md")):
        text = (PAGE.parent / page_name).read_text(encoding="utf-8")
        assert several.table(committed(name)) in text


def test_the_fields_names_stand_beside_ours() -> None:
    """UA = 100 - Acc_e; IRA is Acc_ir, and where it is measured by itself a column of its own."""
    text = (PAGE.parent / "measurements.md").read_text(encoding="utf-8")
    assert re.search(r"^\| Acc_e \| .*100 less this as UA \|$", text, re.MULTILINE)
    assert re.search(r"^\| Acc_ir \| .*others call it IRA \|$", text, re.MULTILINE)
    shown = table([{**ROWS[0], "method": "fast", "ira": 99.0}]).splitlines()[0]
    assert shown == "| method | Acc_e | Acc_ir | IRA |"


def test_the_pages_figures_are_those_of_the_committed_rows() -> None:
    assert PAGE.read_text(encoding="utf-8") == page()
    names = ("measurements.md", "gallery.md")
    text = "\n".join((PAGE.parent / name).read_text(encoding="utf-8") for name in names)
    assert all(each.partition("\n\n")[2] in text for each in summary().split("\n\n\n"))


def test_the_readme_has_the_figures_of_a_negative_prompt() -> None:
    assert negative.table(negative.committed()) in README.read_text(encoding="utf-8")


def test_the_readme_says_how_often_an_erased_concept_is_still_found() -> None:
    rows = committed("erasure")

    def still(method: str, *, phrases: bool) -> str:
        of_kind = [row for row in rows if (row["kind"] == "phrase") == phrases]
        return f"{means([row for row in of_kind if row['method'] == method])['acc_e']:.1f}%"

    text = " ".join(README.read_text(encoding="utf-8").split())
    words = f"{still('fast', phrases=False)} of the pictures that ask for them (before: "
    assert words + still("base", phrases=False) in text
    assert f"Six phrases: {still('fast', phrases=True)}" in text
    erased = [row for row in committed("gallery") if row["method"] == "fast"]
    assert len({row["concept"] for row in erased}) == 21
    gallery, strict = (means(some)["acc_e"] for some in (erased, by_second_judge(erased)))
    assert f"21 words of the gallery: {gallery:.1f}%" in text
    assert f"by a stricter judge {strict:.1f}%" in text
