"""What the page shows of a training while it runs: curves, time left, previews, how it ended."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management

from ...erase_engine.training.loop import StepReport
from ..host.page import Event, Send

MOST_POINTS = 200  # of a curve; more than the node is wide tells nothing
SECONDS_BETWEEN_EVENTS = 0.3
SIGNIFICANT_DIGITS = 4
BEFORE_THE_FIRST = "Cancelled before the first step."


@dataclass
class Curve:
    """Losses step by step; neighbours are averaged as soon as there are too many."""

    rows: list[tuple[int, dict[str, float]]] = field(default_factory=list)  # (last step, mean)
    stride: int = 1  # steps in a row
    waiting: list[tuple[int, dict[str, float]]] = field(default_factory=list)

    def add(self, step: int, losses: dict[str, float]) -> None:
        self.waiting.append((step, losses))
        if len(self.waiting) == self.stride:
            self.rows.append(_mean(self.waiting))
            self.waiting.clear()
        if len(self.rows) > MOST_POINTS:
            pairs = [self.rows[at : at + 2] for at in range(0, MOST_POINTS, 2)]
            # The row without a partner is the newest: as a whole it goes on waiting for one.
            self.waiting = [self.rows[-1]] * self.stride
            self.rows = [_mean(pair) for pair in pairs]
            self.stride *= 2

    @property
    def empty(self) -> bool:
        return not self.rows and not self.waiting

    def catch_up(self, report: StepReport) -> None:
        """The steps before this one, which an earlier run has done.

        A loss that came later has no values of the first steps; one that is gone, none of the last.
        """
        first = {
            name: 1 + (report.step - len(values) if name in report.losses else 0)
            for name, values in report.history.items()
        }
        for step in range(1, report.done_before + 1):
            known = {
                name: values[step - first[name]]
                for name, values in report.history.items()
                if first[name] <= step < first[name] + len(values)
            }
            if known:
                self.add(step, known)

    def points(self) -> dict[str, Any]:
        """Each row's step, and its losses by name; None where one is missing or no number."""
        rows = [*self.rows, *([_mean(self.waiting)] if self.waiting else [])]
        names = dict.fromkeys(name for _, losses in rows for name in losses)
        return {
            "steps": [step for step, _ in rows],
            "losses": {name: [finite(losses.get(name)) for _, losses in rows] for name in names},
        }


def _mean(rows: list[tuple[int, dict[str, float]]]) -> tuple[int, dict[str, float]]:
    names = dict.fromkeys(name for _, losses in rows for name in losses)
    values = {name: [losses[name] for _, losses in rows if name in losses] for name in names}
    return rows[-1][0], {name: sum(found) / len(found) for name, found in values.items()}


def finite(value: float | None) -> float | None:
    """The number, shortened; None in place of NaN and infinity, which JSON cannot say."""
    if value is None or not math.isfinite(value):
        return None
    return float(f"{value:.{SIGNIFICANT_DIGITS}g}")


class TrainingEvents:
    """One training; each event that is sent holds all there is to show.

    So a page needs no memory: the next event makes it whole again after a reload.
    """

    def __init__(self, send: Send, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._send, self._clock = send, clock
        self._curve = Curve()
        self._latest: Event = {"state": "starting", "message": "", "step": 0, "total": 0}
        self._latest |= {"seconds_left": None, "previews": None, "started": time.time()}
        self._sent = clock()
        self._began: tuple[float, float] | None = None  # when, and what share was done then
        self.saved = ""  # the file of a training that was stopped
        self._send(self.event())

    def event(self) -> Event:
        """All of it, as JSON takes it."""
        return {**self._latest, **self._curve.points()}

    def say(self, message: str) -> None:
        """Shows words at once; they stay until it ends."""
        self._latest["message"] = message
        self._send_now()

    def step(self, report: StepReport) -> None:
        """Shows a step, unless the last event is too fresh; one that is no pass, at once."""
        pause = report.stage in ("solving", "solved")
        if self._curve.empty and not pause:
            self._curve.catch_up(report)
        if report.losses:
            self._curve.add(report.step, report.losses)
        self._latest |= {"state": report.stage, "step": report.step, "total": report.total}
        self._latest["seconds_left"] = None if pause else finite(self._seconds_left(report))
        if pause or self._clock() - self._sent >= SECONDS_BETWEEN_EVENTS:
            self._send_now()

    def _seconds_left(self, report: StepReport) -> float | None:
        """At the speed since this run's first pass: loading and solving come before it."""
        now, done = self._clock(), report.forwards / max(report.total_forwards, 1)
        if self._began is None:
            self._began = now, done
        began, done_then = self._began
        return (now - began) * (1 - done) / (done - done_then) if done > done_then else None

    def preview(self, previews: list[Event], step: int) -> None:
        """Shows new pictures at once."""
        self._latest["previews"] = {"step": step, "prompts": previews}
        self._send_now()

    def end(self, state: str, message: str = "") -> None:
        self._latest |= {"state": state, "message": message, "seconds_left": None}
        self._send_now()

    def _send_now(self) -> None:
        self._sent = self._clock()
        self._send(self.event())


@contextmanager
def training_events(send: Send) -> Iterator[TrainingEvents]:
    """A `TrainingEvents` that also shows what stopped the training."""
    live = TrainingEvents(send)
    try:
        yield live
    except BaseException as error:  # cancelling is no Exception on newer hosts
        live.end(*_ending(error, live))
        raise


def _ending(error: BaseException, live: TrainingEvents) -> tuple[str, str]:
    saved = f"Saved so far as {live.saved}; press Run to go on." if live.saved else ""
    if isinstance(error, comfy.model_management.InterruptProcessingException):
        step, total = live.event()["step"], live.event()["total"]
        where = f"Cancelled in step {step} of {total}." if step else BEFORE_THE_FIRST
        return "cancelled", f"{where} {saved or 'Nothing was saved.'}"
    return "failed", f"{str(error) or type(error).__name__} {saved}".strip()
