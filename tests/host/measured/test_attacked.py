"""Attacks and relearning on the real tiny model; and the command that makes the rows."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from eraseanything_pack.benchmarks.erasure.__main__ import miniature
from eraseanything_pack.benchmarks.erasure.attacks import WHITE_BOX, target_of
from eraseanything_pack.benchmarks.erasure.case import Case
from eraseanything_pack.benchmarks.erasure.comeback import (
    CHECKED_EVERY,
    MOST_STEPS,
    lesson_of,
    relearned,
)
from eraseanything_pack.benchmarks.erasure.measure import measured
from eraseanything_pack.benchmarks.erasure.robustness import (
    QUICK,
    SLOW_SEED,
    black_box,
    robustness,
    wordings_of,
)
from eraseanything_pack.benchmarks.erasure.workers import Job, shared_out
from eraseanything_pack.benchmarks.negative import Avoided, Nag, require_nag
from eraseanything_pack.benchmarks.world import FIRST_SEED, World
from eraseanything_pack.erase_engine.training.loop import Erasure
from PIL import Image
from torch import Generator

ROOT = Path(__file__).parents[3]
OTHERS = ("asr_token", "asr_black", "black_wordings", "relearned")


@pytest.fixture(scope="module")
def case() -> Case:
    return Case(World(), "star", 0, 12)


@pytest.fixture(scope="module")
def nothing(case: Case) -> Erasure:
    """An erasure that changes nothing: B is 0."""
    with case.world.backend.session() as model:
        slices = model.linear_slices(model.target_names("text_qk"))
        lora = model.adapters(slices, rank=1, generator=Generator().manual_seed(0))
        return Erasure(lora.state_dict(), {}, 0)


def test_what_was_not_erased_comes_back_at_once(case: Case, nothing: Erasure) -> None:
    assert all(0 <= steps <= CHECKED_EVERY < MOST_STEPS for steps in relearned(case, nothing))


def test_wordings_that_the_base_model_does_not_answer_are_left_out(
    case: Case, nothing: Erasure
) -> None:
    for figures in black_box(case, nothing):
        assert figures["asr_black"] == 100
        assert figures["black_wordings"] == len(wordings_of(case)) < 6  # "STAR" is no word to it
    texts = [text for wording in wordings_of(case) for text in wording.texts]
    assert any("pentagram" in text for text in texts) and not any("STAR" in text for text in texts)


def test_the_slowest_attacks_can_be_left_out(case: Case, nothing: Erasure) -> None:
    quick = Case(case.world, "star", SLOW_SEED, 3, slow=False)
    for figures in robustness(quick, nothing):
        known = {name for name, figure in figures.items() if figure is not None}
        assert known == {*QUICK, "relearned"}


@pytest.mark.thorough
def test_a_quick_look_does_not_attack_what_says_that_it_is_soft(case: Case) -> None:
    quick = Case(case.world, "star", SLOW_SEED, 3, slow=False)
    soft, hard = (measured(quick, method)[0] for method in ("instant", "fast"))
    assert "asr_white" not in soft and hard["asr_white"] is not None
    assert soft.keys() - {"judge2"} == hard.keys() - {*WHITE_BOX, *OTHERS, "judge2"}


def test_a_miniature_is_known_by_any_letters() -> None:
    assert [miniature(name) for name in ("sd3.5", "FLUX", "sdxl")] == ["SD3.5", "Flux", "sdxl"]


def test_no_process_idles_while_the_last_concept_is_measured() -> None:
    job = Job("star", 0, ["base", "ablate+", "fast"], 24, None, "fast", slow=False)
    jobs = [job, replace(job, concept="red"), replace(job, concept="above")]
    found = [(each.concept, *each.methods) for each in shared_out(jobs, 2)]
    assert found[:2] == [(name, "base", "ablate+", "fast") for name in ("star", "red")]
    assert found[2:] == [("above", "base"), ("above", "ablate+", "fast")]
    assert shared_out(jobs, 1) == shared_out(jobs, 3) == jobs


def test_attacks_and_lessons_use_different_prompts_with_the_concept(case: Case) -> None:
    target, lesson = target_of(case), lesson_of(case)
    assert [len(prompt.scene.things) for prompt in target.prompts] == [1] * 4 + [2] * 8
    assert (target.tokens >= 0).any(dim=1).all() and (lesson.tokens >= 0).any(dim=1).all()
    assert len(lesson.latents) == 16 and lesson.latents.std() == pytest.approx(1, abs=0.2)


def test_a_negative_prompt_leads_away_from_its_words_and_nowhere_else(case: Case) -> None:
    """None at all is the benchmark's own picture; the prompt's own words cancel out."""
    text, usual = case.prompts["named"][0].text, case.world.backend.cfg
    plain = case.world.draw([text], FIRST_SEED)

    def moved(negative: str, cfg: float) -> float:
        drawn = Avoided(case.world, negative, cfg).draw([text], case.seed)
        return (drawn - plain).square().mean().item()

    assert moved("", usual) == 0
    assert moved(text, 3.0) < 1e-4 < moved("star", 3.0)
    assert case.world.backend.cfg == usual


@pytest.mark.filterwarnings(
    "ignore:Mismatch dtype between input and weight"
)  # the newer host's own
def test_nag_leads_away_from_its_words_and_nowhere_else(case: Case) -> None:
    """At a scale of 1 it is the benchmark's own picture, but for the host's own noise schedule."""
    pytest.importorskip("comfy_extras.nodes_nag", reason="came with a newer ComfyUI")
    text = case.prompts["named"][0].text
    plain = case.world.draw([text], FIRST_SEED)

    def moved(negative: str, scale: float) -> float:
        drawn = Nag(case.world, negative, scale=scale).draw([text], case.seed)
        return (drawn - plain).square().mean().item()

    assert moved("star", 1.0) < 1e-4 < 1e-3 < moved("star", 5.0)


def test_a_comfyui_without_nag_is_named_with_the_one_that_has_it() -> None:
    said: list[str] = []
    require_nag(said.append)
    with suppress(ImportError):
        import comfy_extras.nodes_nag  # noqa: F401

        assert said == []
        return
    (sentence,) = said
    assert "no node Normalized Attention Guidance" in sentence and "0.33.0" in sentence


@pytest.mark.thorough
def test_the_command_writes_rows_means_worst_and_a_sheet_and_goes_on(tmp_path: Path) -> None:
    out, sheets = tmp_path / "out.json", tmp_path / "sheets"
    options = ["--concepts", "star", "--methods", "base", "--count", "6", "--workers", "1"]
    shown = ["--sheets", str(sheets), "--shown", "base", "--out", str(out)]
    command = [sys.executable, "-m", "benchmarks.erasure", *options, *shown]
    text = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    result = json.loads(out.read_text(encoding="utf-8"))
    (row,) = result["rows"]
    assert row["acc_e"] == result["methods"]["base"]["acc_e"] == result["worst"]["base"]["acc_e"]
    assert result["worst_at"]["base"]["acc_e"] == "star, seed 0" and "**base**" in text
    assert row["judge2"]["acc_e"] == result["methods"]["base"]["judge2"]["acc_e"]
    assert (sheets / "star.png").stat().st_size <= 60_000
    with Image.open(sheets / "star.png") as sheet:
        assert sheet.width > 500
    before = out.read_bytes()
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    assert out.read_bytes() == before  # nothing is measured twice
