"""What the page shows of a training while it runs: curves, time left, previews, how it ended."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import comfy.model_management
from comfy_execution.utils import get_executing_context

from ..erase_engine.train import StepReport

EVENT = "eraseanything.step"
ROUTE = "/eraseanything/live"
MOST_POINTS = 200  # of a curve; more than the node is wide tells nothing
SECONDS_BETWEEN_EVENTS = 0.3
RUNS_REMEMBERED = 32  # of all pages together
SIGNIFICANT_DIGITS = 4

Event = dict[str, Any]  # JSON: what `Live.event` gives
Send = Callable[[Event], None]


# --- one training ------------------------------------------------------------------------------


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
        """The steps before this one, which an earlier run has done."""
        for step in range(1, report.step):
            known = {name: values[step - 1] for name, values in report.history.items()}
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


class Live:
    """One training; each event that is sent holds all there is to show.

    So a page needs no memory: the next event makes it whole again after a reload.
    """

    def __init__(self, send: Send, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._send, self._clock = send, clock
        self._curve = Curve()
        self._latest: Event = {"state": "starting", "message": "", "step": 0, "total": 0}
        self._latest |= {"seconds_left": None, "previews": None, "started": time.time()}
        self._began = self._sent = clock()
        self._done_before: float | None = None  # share of the work that an earlier run has done
        self.saved = ""  # the file of a training that was stopped
        self._send(self.event())

    def event(self) -> Event:
        """All of it, as JSON takes it."""
        return {**self._latest, **self._curve.points()}

    def say(self, message: str) -> None:
        """Shows words at once; they stay until it ends."""
        self._latest["message"] = message
        self._send_now()

    def begin(self) -> None:
        """The model is loaded and the pictures of before are drawn: time counts from here."""
        self._began = self._clock()

    def step(self, report: StepReport) -> None:
        """Shows a step, unless the last event is too fresh."""
        if self._curve.empty:
            self._curve.catch_up(report)
        if report.losses:
            self._curve.add(report.step, report.losses)
        state = "training" if report.step else "sampling"
        self._latest |= {"state": state, "step": report.step, "total": report.total}
        self._latest["seconds_left"] = finite(self._seconds_left(report))
        if self._clock() - self._sent >= SECONDS_BETWEEN_EVENTS:
            self._send_now()

    def _seconds_left(self, report: StepReport) -> float | None:
        """At the speed of this run: what an earlier one has done took no time of it."""
        done = report.forwards / max(report.total_forwards, 1)
        if self._done_before is None:
            self._done_before = done if report.step > 1 else 0.0
        mine = done - self._done_before
        return (self._clock() - self._began) * (1 - done) / mine if mine else None

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
def live_training(send: Send) -> Iterator[Live]:
    """A `Live` that also shows what stopped the training."""
    live = Live(send)
    try:
        yield live
    except BaseException as error:  # cancelling is no Exception on newer hosts
        live.end(*_ending(error, live))
        raise


def _ending(error: BaseException, live: Live) -> tuple[str, str]:
    saved = f"Saved so far as {live.saved}; queue again to go on." if live.saved else ""
    if isinstance(error, comfy.model_management.InterruptProcessingException):
        step, total = live.event()["step"], live.event()["total"]
        where = f"in step {step} of {total}" if step else "before the first step"
        return "cancelled", f"Cancelled {where}. {saved or 'Nothing was saved.'}"
    return "failed", f"{str(error) or type(error).__name__} {saved}".strip()


# --- to the page -------------------------------------------------------------------------------


_runs: dict[tuple[str, ...], Event] = {}  # the last event of each node, for pages that reload


def sender(workflow: str) -> Send:
    """Sends events to the page that queued the running node.

    Does nothing where there is no page: in tests, in scripts, in prompts without a client.
    """
    context = get_executing_context()
    server = _server()
    if context is None or server is None or server.client_id is None:
        return lambda event: None
    client = server.client_id
    place = {"node": context.node_id, "prompt_id": context.prompt_id, "workflow": workflow}

    def send(event: Event) -> None:
        _remember((client, workflow, context.node_id), event | place)
        server.send_sync(EVENT, event | place, client)

    return send


def workflow_id(hidden: Any) -> str:
    """The id of the workflow a node was queued from; "" where the prompt came from elsewhere."""
    extra = getattr(hidden, "extra_pnginfo", None)
    workflow = extra.get("workflow") if isinstance(extra, dict) else None
    return str(workflow.get("id", "")) if isinstance(workflow, dict) else ""


def running_graph() -> dict[str, Any]:
    """The prompt that the running node stands in, by node id; empty where no server runs it."""
    context, queue = get_executing_context(), getattr(_server(), "prompt_queue", None)
    if context is None or queue is None:
        return {}
    with queue.mutex:
        running = list(queue.currently_running.values())
    return next((each[2] for each in running if each[1] == context.prompt_id), {})


def add_route() -> None:
    """Lets a reloaded page ask for its trainings: `GET /eraseanything/live?client=<id>`."""
    server = _server()
    if server is None:
        return
    from aiohttp import web

    @server.routes.get(ROUTE)
    async def live(request: web.Request) -> web.Response:
        client = request.query.get("client", "")
        return web.json_response([run for key, run in list(_runs.items()) if key[0] == client])


def _remember(key: tuple[str, ...], event: Event) -> None:
    _runs.pop(key, None)
    _runs[key] = event
    while len(_runs) > RUNS_REMEMBERED:
        del _runs[next(iter(_runs))]


def _server() -> Any:
    """The host's server; None where none runs. It is never imported: whoever runs it has it."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
