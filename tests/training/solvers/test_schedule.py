"""When the learning rate falls, and when a training ends by itself."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from training_runs import equal, stopped, train

from erase_engine.config import EraseConfig
from erase_engine.training.checkpoint import Checkpoint
from erase_engine.training.loop import StepReport
from erase_engine.training.solvers.schedule import Schedule

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
        draws.mean.fill_((left or [2.0])[min(len(rates), len(left or [2.0])) - 1])
        schedule.learn(len(rates))
    assert schedule.settled == (len(rates) < numbers["steps"])
    return rates


def test_the_rate_holds_and_then_falls_in_a_straight_line() -> None:
    falling = [0.75, 0.5, 0.25]
    assert schedule_of(steps=8, cooldown=0.5) == [1, 1, 1, 1, 1, *falling]
    assert schedule_of(steps=8) == [1] * 8


def test_it_falls_sooner_where_the_loss_has_come_down() -> None:
    numbers = {"steps": 8, "cooldown": 0.5, "settled": 0.5}
    assert schedule_of([1.5, 0.9, 1.5], **numbers) == [1, 1, 1, 0.75, 0.5, 0.25]
    assert schedule_of([0.5], **numbers) == [1, 1, 0.75, 0.5, 0.25]
    late = schedule_of([1.5] * 5 + [0.5], **numbers)  # as it falls already
    assert late == schedule_of([1.5], **numbers) == [1, 1, 1, 1, 1, 0.75, 0.5, 0.25]
    assert schedule_of([0.5], **(numbers | {"settled": 0.0})) == late
    assert schedule_of([1.5, 0.5], **(numbers | {"cooldown": 0.0})) == [1, 1]


def test_it_ends_by_itself_and_tells_how_many_passes_are_left(small_flow, encoded) -> None:
    reports: list[StepReport] = []
    done = train(small_flow, encoded, on_step=reports.append, **ENDS)
    steps = [report for report in reports if report.losses]
    assert 10 < len(steps) == len(done.history["esd"]) < 40
    assert steps[0].total == 40 and steps[-1].last
    assert [report for report in steps if report.last] == steps[-1:]
    assert steps[-1].total_forwards == steps[-1].forwards == done.forwards
    fall = [report.total_forwards for report in steps if report.total < 40]
    assert len(fall) == 11 and set(fall) == {done.forwards}  # from the step that settles it
    assert steps[0].total_forwards > done.forwards


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
    assert {(report.total, report.total_forwards) for report in reports[1:]} <= {
        (count, whole.forwards)
    }


def test_what_is_left_is_a_share_of_what_the_teacher_has(small_flow, encoded, monkeypatch) -> None:
    """L_esd without an adapter, of all states: between concept and anchor, eta as far again."""
    found: list[tuple[float, float]] = []
    real = Schedule.__init__

    def kept(self: Schedule, objective: Any) -> None:
        real(self, objective)
        teacher = objective.states.trajectories.erase.teacher_velocity
        between = (teacher[:, :, 0] - teacher[:, :, 1]).square().mean().item()
        found.append(
            (objective.esd_at_first(), (1 + objective.config.negative_guidance) ** 2 * between)
        )

    monkeypatch.setattr(Schedule, "__init__", kept)
    train(small_flow, encoded, steps=1, importance=0.7, negative_guidance=0.5)
    assert found and found[0][0] == pytest.approx(found[0][1])
