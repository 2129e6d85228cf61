"""The one step that memory is measured on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from eraseanything_pack.benchmarks.full_width import config_of, encoded_plan
from eraseanything_pack.benchmarks.gpu.__main__ import read_options
from eraseanything_pack.benchmarks.step import Clock, full_step
from eraseanything_pack.benchmarks.width import SMALL, losses_with
from eraseanything_pack.erase_engine.config import EraseConfig, LoraConfig
from families.nets import NETS, POOLED, TEXT

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize("name", ["flux", "qwen-image"])
def test_a_step_erases_and_preserves(name: str) -> None:
    """A pass for each half, and the adapters have moved."""
    net = NETS[name]
    clock = Clock(lambda: 0.0)
    encoded = encoded_plan(8, width=TEXT, pooled=POOLED if net.pooled else None)
    config = config_of(64, lora=LoraConfig(targets="text_in_pooled"))
    lora = full_step(net.build(), config, encoded, checkpointing=True, clock=clock)
    assert len(clock.forwards) == 2
    assert any(parameter.any() for parameter in lora.parameters()[1::2])  # B, which begins at 0


def test_a_few_steps_are_trained_as_those_of_a_phrase() -> None:
    """On a narrow net: nobody waits for one of FLUX's own width in these tests."""
    net, phrase = NETS["flux"], EraseConfig.from_recipe("fast", **SMALL).after_solving()
    row = losses_with(8, net.build(), encoded_plan(8, width=TEXT, pooled=POOLED))
    assert len(row["esd"]) == len(row["keep"]) == phrase.steps > SMALL["steps"]
    assert row["learning_rate"] == phrase.learning_rate and row["esd"][-1] != row["esd"][0]


def test_the_command_for_a_card_says_what_its_parts_are() -> None:
    """And that it finds all that it is made of: nobody has a card in these tests."""
    told = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", "--help"],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    assert re.findall(r"- (\w+):", told) == ["exact", "world", "whole", "partial", "core"]


def test_a_rehearsal_never_takes_the_place_of_a_cards_figures() -> None:
    written = [read_options(words).out.name for words in ([], ["--rehearse"])]
    assert written == ["gpu.json", "gpu_rehearsal.json"]
    assert read_options(["--rehearse", "--out", "here.json"]).out == Path("here.json")
