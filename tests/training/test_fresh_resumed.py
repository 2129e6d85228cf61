"""The paper's schedule, cancelled within a sampling and gone on with."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from training_runs import CONFIG, PAPER, equal, some_pictures, train

from erase_engine.training.checkpoint import Checkpoint, identity_of
from erase_engine.training.cost import expected_forwards
from erase_engine.training.encoded_prompts import EncodedPrompts
from erase_engine.training.loop import StepReport

SMALL = replace(CONFIG, **PAPER)


def stopped_in_a_pass(backend: Any, encoded: EncodedPrompts, folder: Any, done: int) -> int:
    """Cancels in the third pass that samples after `done` steps; how many reports there were."""
    told: list[StepReport] = []

    def on_step(report: StepReport) -> None:
        told.append(report)
        here = [each for each in told if each.step == done and not each.losses]
        if len(here) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(backend, encoded, Checkpoint(folder), on_step=on_step, **PAPER)
    return len(told)


@pytest.mark.parametrize("solver", ["alternate", "budget"])
@pytest.mark.parametrize("given", [None, 3])
@pytest.mark.parametrize("step", [1, 6])
def test_cancelled_in_a_pass_and_gone_on_is_never_stopped(
    small_flow, encoded, tmp_path, monkeypatch, step, given, solver
) -> None:
    monkeypatch.setitem(PAPER, "solver", solver)
    if given:
        encoded = replace(encoded, pictures=some_pictures(given))
    whole = train(small_flow, encoded, **PAPER)
    stopped_in_a_pass(small_flow, encoded, tmp_path, step)
    begun: list[StepReport] = []
    gone_on = train(small_flow, encoded, Checkpoint(tmp_path), on_step=begun.append, **PAPER)
    assert equal(gone_on, whole)
    assert [each.step for each in begun if each.losses] == list(range(step + 1, 10))
    assert all(each.done_before >= step for each in begun if each.step)


def test_drawn_pictures_are_not_drawn_again(small_flow, encoded, tmp_path) -> None:
    stopped_in_a_pass(small_flow, encoded, tmp_path, 6)
    small_flow.samples = 0
    whole = expected_forwards(encoded, SMALL, guided=False)
    start = 2 + SMALL.paths * SMALL.trajectory_steps
    train(small_flow, encoded, Checkpoint(tmp_path), **PAPER)
    a_step = (whole - start) // SMALL.steps
    assert small_flow.samples == 3 * a_step + 2  # two to know the model by


def test_other_pictures_are_another_training(small_flow, encoded, tmp_path) -> None:
    one, two = (replace(encoded, pictures=some_pictures(3, seed)) for seed in (0, 1))
    assert len({identity_of(each, SMALL) for each in (encoded, one, two)}) == 3
    stopped_in_a_pass(small_flow, one, tmp_path, 6)
    with pytest.raises(ValueError, match=r"another concept, settings.*begin anew"):
        train(small_flow, two, Checkpoint(tmp_path, strict=True), **PAPER)


def test_another_model_is_not_gone_on_with(small_flow, encoded, tmp_path) -> None:
    stopped_in_a_pass(small_flow, encoded, tmp_path, 6)
    small_flow.leave.weight.mul_(1.01)
    with pytest.raises(ValueError, match=r"Got \w+ \(trajectories of another model\)"):
        train(small_flow, encoded, Checkpoint(tmp_path, strict=True), **PAPER)
