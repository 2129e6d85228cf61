"""When the learning rate falls, and when a training ends by itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from training_runs import equal, poison, stopped, train

from erase_engine.config import EraseConfig
from erase_engine.training.checkpoint import Checkpoint
from erase_engine.training.loop import StepReport
from erase_engine.training.solvers.schedule import SETTLED, Schedule

ENDS = {"importance": 0.7, "steps": 40, "cooldown": 0.25, "settled": 0.5}


def schedule_of(left: list[float] | None = None, **numbers: Any) -> list[float]:
    """Each step's rate, where so much of a loss of 2 is left after each."""
    draws = SimpleNamespace(mean=torch.tensor(2.0))
    importance = {"erase": draws} if left else {}
    objective = SimpleNamespace(
        config=EraseConfig(**numbers),
        states=SimpleNamespace(importance=importance),
        esd_at_first=lambda: 2.0,
    )
    schedule: Schedule = Schedule(objective)  # type: ignore[arg-type]
    rates = []
    while len(rates) < schedule.last:
        rates.append(schedule.rate(len(rates) + 1))
        falls = rates[-1] < 1 or not numbers.get("cooldown")
        assert schedule.under_attack(len(rates)) == (falls or not (left and numbers.get("settled")))
        draws.mean.fill_((left or [2.0])[min(len(rates), len(left or [2.0])) - 1])
        schedule.learn(len(rates))
    assert schedule.ends_sooner == (len(rates) < numbers["steps"])
    return rates


def test_the_rate_holds_and_then_falls_in_a_straight_line() -> None:
    falling = [0.75, 0.5, 0.25]
    assert schedule_of(steps=8, cooldown=0.5) == [1, 1, 1, 1, 1, *falling]
    assert schedule_of(steps=8) == [1] * 8


def test_it_falls_sooner_where_the_loss_has_come_down() -> None:
    numbers = {"steps": 12, "cooldown": 0.25, "settled": 0.5}
    falling = pytest.approx([2 / 3, 1 / 3])
    assert schedule_of([1.5] * 5 + [1.0, 1.5], **numbers)[7:] == falling  # after the sixth step
    assert schedule_of([0.5], **numbers)[6:] == falling  # not by a batch or two
    for left in ([1.5], [1.5] * 8 + [0.5], [1.5] * 10 + [0.5]):  # never, or as it falls already
        assert schedule_of(left, **numbers)[10:] == falling
    assert schedule_of([0.5], **(numbers | {"settled": 0.0}))[10:] == falling
    assert schedule_of([0.5], **(numbers | {"cooldown": 0.0})) == [1] * 5
    broken = schedule_of([0.5], **(numbers | {"cooldown": 0.3}))
    assert broken[5:] == pytest.approx([1, 3 / 3.6, 2 / 3.6, 1 / 3.6])


@pytest.mark.parametrize("solver", ["alternate", "budget"])
def test_it_ends_by_itself_and_tells_how_many_passes_are_left(small_flow, encoded, solver) -> None:
    reports: list[StepReport] = []
    done = train(small_flow, encoded, on_step=reports.append, solver=solver, **ENDS)
    steps = [report for report in reports if report.losses]
    assert 10 < len(steps) == len(done.history["esd"]) < 40 and done.ended == SETTLED
    assert steps[0].total == 40 and steps[-1].last
    assert [report for report in steps if report.last] == steps[-1:]
    assert steps[-1].total_forwards == steps[-1].forwards == done.forwards
    assert len([report for report in steps if report.total < 40]) == 11  # with what settles it
    assert steps[0].total_forwards > done.forwards


def test_passes_of_a_step_that_is_tried_again_are_none_of_those_that_are_left(
    small_flow, encoded
) -> None:
    whole = train(small_flow, encoded, **ENDS)
    settles = len(whole.history["esd"]) - 10
    for step in (settles - 1, settles):
        reports: list[StepReport] = []
        poisoned = poison(small_flow, step - 1, times=1)

        def on_step(report: StepReport, poisoned=poisoned, reports=reports) -> None:
            poisoned(report)
            reports.append(report)

        train(small_flow, encoded, on_step=on_step, **ENDS)
        assert reports[-1].last and reports[-1].forwards == reports[-1].total_forwards


@pytest.mark.parametrize("before_the_end", [1, 5, 11])
def test_gone_on_while_the_rate_falls_is_never_stopped(
    small_flow, encoded, tmp_path, before_the_end
) -> None:
    whole = train(small_flow, encoded, **ENDS)
    count = len(whole.history["esd"])
    stopped(small_flow, encoded, tmp_path, count - before_the_end, **ENDS)
    reports: list[StepReport] = []
    gone_on = train(small_flow, encoded, Checkpoint(tmp_path), on_step=reports.append, **ENDS)
    assert equal(gone_on, whole)
    assert len(reports) == before_the_end
    assert {(each.total, each.total_forwards) for each in reports} == {(count, whole.forwards)}


@pytest.mark.parametrize(("early", "times"), [(1.0, 4), (0.5, 2)])
def test_what_is_left_is_a_share_of_what_the_teacher_has(
    small_flow, encoded, monkeypatch, early, times
) -> None:
    """L_esd without an adapter, of all states: between concept and anchor, eta as far again."""
    found: list[tuple[float, float]] = []
    real = Schedule.__init__

    def kept(self: Schedule, objective: Any) -> None:
        real(self, objective)
        teacher = objective.states.trajectories.erase.teacher_velocity[:, :times]
        between = (teacher[:, :, 0] - teacher[:, :, 1]).square().mean().item()
        found.append((objective.esd_at_first(), 1.5**2 * between))

    monkeypatch.setattr(Schedule, "__init__", kept)
    train(small_flow, encoded, steps=1, negative_guidance=0.5, early=early)
    assert len(found) == 1 and found[0][0] == pytest.approx(found[0][1])
