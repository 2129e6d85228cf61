"""What a training tells the page, and that telling and drawing change nothing of it."""

from __future__ import annotations

import json
import math
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import pytest
from eraseanything_pack.erase_engine.training.loop import StepReport
from eraseanything_pack.nodes.host import page
from eraseanything_pack.nodes.training import events
from eraseanything_pack.nodes.training.events import Curve, TrainingEvents, training_events

Cancel = comfy.model_management.InterruptProcessingException


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def report(step: int, total: int = 100, **losses: float) -> StepReport:
    return StepReport(step, total, losses, 1.0, forwards=step, total_forwards=total)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def sent() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def shown(sent: list[dict[str, Any]], clock: Clock) -> TrainingEvents:
    return TrainingEvents(sent.append, clock=clock)


@pytest.mark.parametrize("steps", [1, 7, 200, 201, 202, 1234, 100_000])
def test_a_curve_has_few_points_and_reaches_the_last_step(steps: int) -> None:
    curve = Curve()
    for step in range(1, steps + 1):
        curve.add(step, {"esd": float(step)})
    points = curve.points()
    assert min(steps, 100) <= len(points["steps"]) <= events.MOST_POINTS + 1
    assert points["steps"] == sorted(set(points["steps"])) and points["steps"][-1] == steps
    assert len(points["losses"]["esd"]) == len(points["steps"])


@pytest.mark.parametrize("steps", [200, 201, 202, 403, 1234])
def test_a_thinned_curve_is_the_mean_of_its_steps(steps: int) -> None:
    curve = Curve()
    for step in range(1, steps + 1):
        curve.add(step, {"esd": float(step)})
    points, first = curve.points(), 1
    for last, value in zip(points["steps"], points["losses"]["esd"], strict=True):
        assert value == pytest.approx((first + last) / 2, rel=1e-3)
        first = last + 1


def test_a_loss_that_comes_later_has_gaps_before() -> None:
    curve = Curve()
    curve.add(1, {"esd": 1.0})
    curve.add(2, {"esd": 2.0, "keep": 3.0})
    assert curve.points()["losses"] == {"esd": [1.0, 2.0], "keep": [None, 3.0]}


def test_what_is_no_pass_is_told_at_once_and_makes_no_point(
    shown: TrainingEvents, sent: list[dict[str, Any]]
) -> None:
    shown.step(StepReport(0, 100, {}, 0.0, 10, 100, stage="solving"))
    assert [sent[-1][name] for name in ("state", "steps", "seconds_left")] == ["solving", [], None]


def test_losses_that_come_later_or_end_are_caught_up_with_where_they_were() -> None:
    curve = Curve()
    history = {"esd": [1.0, 2.0, 3.0, 4.0], "attack": [0.1, 0.2], "keep": [7.0, 8.0]}
    curve.catch_up(StepReport(4, 9, {"esd": 4.0, "keep": 8.0}, 1.0, 4, 9, history))
    found = curve.points()["losses"]
    assert found["esd"] == [1.0, 2.0, 3.0] and found["attack"] == [0.1, 0.2, None]
    assert found["keep"] == [None, None, 7.0]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_event_holds_what_json_lacks(
    value: float, shown: TrainingEvents, sent: list[dict[str, Any]], clock: Clock
) -> None:
    clock.now = value
    shown.step(report(1, esd=1.0, multiplier=value))
    shown.end("done")
    assert sent[-1]["losses"] == {"esd": [1.0], "multiplier": [None]}
    for event in sent:
        json.dumps(event, allow_nan=False)


def test_events_come_a_few_times_a_second(
    shown: TrainingEvents, sent: list[dict[str, Any]], clock: Clock
) -> None:
    for step in range(1, 101):  # a step every 20 ms
        clock.now = step / 50
        shown.step(report(step, esd=1.0))
    assert 4 <= len(sent) <= 1 + 2 / events.SECONDS_BETWEEN_EVENTS
    shown.end("done")
    assert sent[-1]["step"] == 100 and len(sent[-1]["steps"]) == 100


def test_time_left_follows_the_forwards(
    shown: TrainingEvents, sent: list[dict[str, Any]], clock: Clock
) -> None:
    clock.now = 50.0  # loading does not count, nor does solving
    shown.step(StepReport(0, 100, {}, 0.0, 0, 100, stage="solving"))
    clock.now += 60.0
    shown.step(StepReport(0, 100, {}, 0.0, 5, 100, stage="sampling"))
    clock.now += 10.0
    shown.step(report(25, esd=1.0))
    assert sent[-1]["seconds_left"] == 37.5  # 20 of 100 in 10 seconds: 75 are left


@pytest.mark.parametrize(
    ("error", "state", "message"),
    [
        (Cancel(), "cancelled", "Cancelled in step 3 of 100. Nothing was saved."),
        (ValueError("Got <b>1</b>, expected 2."), "failed", "Got <b>1</b>, expected 2."),
        (KeyboardInterrupt(), "failed", "KeyboardInterrupt"),
    ],
)
def test_the_last_event_says_how_it_ended(
    error: BaseException, state: str, message: str, sent: list[dict[str, Any]]
) -> None:
    with pytest.raises(type(error)), training_events(sent.append) as shown:
        shown.step(report(3, esd=1.0))
        raise error
    assert (sent[-1]["state"], sent[-1]["message"]) == (state, message)
    assert sent[-1]["seconds_left"] is None and sent[-1]["steps"] == [3]


def test_a_stopped_training_says_what_it_left(sent: list[dict[str, Any]]) -> None:
    with pytest.raises(Cancel), training_events(sent.append) as shown:
        shown.step(report(3, esd=1.0))
        shown.saved = "EraseAnything/star_step3_00001.safetensors"
        raise Cancel
    assert sent[-1]["message"] == (
        "Cancelled in step 3 of 100. Saved so far as EraseAnything/star_step3_00001.safetensors; "
        "press Run to go on."
    )


def test_a_training_that_goes_on_shows_its_whole_curve(
    shown: TrainingEvents, sent: list[dict[str, Any]], clock: Clock
) -> None:
    clock.now = 10.0
    shown.step(
        StepReport(51, 100, {"esd": 2.0}, 1.0, 51, 100, {"esd": [float(n) for n in range(51)]})
    )
    clock.now += 10.0
    shown.step(StepReport(61, 100, {"esd": 2.0}, 1.0, 61, 100))
    assert sent[-1]["steps"][:2] == [1, 2] and sent[-1]["losses"]["esd"][:2] == [0.0, 1.0]
    assert sent[-1]["seconds_left"] == pytest.approx(39)  # 10 of 100 in 10 seconds


def test_without_a_workflow_only_the_page_that_asked_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[Any] = []
    server = SimpleNamespace(client_id="mine", send_sync=lambda *given: told.append(given[2]))
    context = SimpleNamespace(node_id="3", prompt_id="p")
    monkeypatch.setattr(page, "_runs", {})
    monkeypatch.setattr(page, "_server", lambda: server)
    monkeypatch.setattr(page, "get_executing_context", lambda: context)
    for workflow in ("", "a workflow"):
        page.sender(workflow)({"state": "training"})
    assert told == ["mine", None]


def test_nobody_is_told_where_there_is_no_page() -> None:
    page.sender("workflow")({"state": "training"})
    assert page._runs == {}


def test_the_last_runs_are_remembered() -> None:
    for number in range(2 * page.RUNS_REMEMBERED):
        page._remember(("workflow", str(number)), {"number": number})
    page._remember(("workflow", "40"), {"number": -1})
    assert len(page._runs) == page.RUNS_REMEMBERED
    assert [run["number"] for run in page._runs.values()][-1] == -1
    page._runs.clear()
