"""Events to the pages that show a running node, and what one asks for that is opened later."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from comfy_execution.utils import get_executing_context

EVENT = "eraseanything.step"
ROUTE = "/eraseanything/live"
RUNS_REMEMBERED = 32  # of all pages together

Event = dict[str, Any]  # JSON: what `TrainingEvents.event` gives
Send = Callable[[Event], None]


# The last event of each node, by whom it is shown to (a workflow or a page) and the node's id.
_runs: dict[tuple[str, str], Event] = {}


def sender(workflow: str) -> Send:
    """Sends events to every page that has the running node's workflow open, on whatever device.

    Without a workflow's id, to the page that queued the node. Does nothing where there is no page:
    in tests, in scripts, in prompts without a client.
    """
    context = get_executing_context()
    server = _server()
    if context is None or server is None or server.client_id is None:
        return lambda event: None
    owner, receiver = (workflow, None) if workflow else (server.client_id, server.client_id)
    place = {"node": context.node_id, "prompt_id": context.prompt_id, "workflow": workflow}

    def send(event: Event) -> None:
        _remember((owner, context.node_id), event | place)
        server.send_sync(EVENT, event | place, receiver)

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
    """Lets a page that is opened later ask for trainings, its workflow's and its own:
    `GET /eraseanything/live?workflow=<id>&client=<id>`.
    """
    server = _server()
    if server is None:
        return
    from aiohttp import web

    @server.routes.get(ROUTE)
    async def live(request: web.Request) -> web.Response:
        owners = {request.query.get("workflow"), request.query.get("client")}
        return web.json_response([run for key, run in list(_runs.items()) if key[0] in owners])


def _remember(key: tuple[str, str], event: Event) -> None:
    _runs.pop(key, None)
    _runs[key] = event
    while len(_runs) > RUNS_REMEMBERED:
        del _runs[next(iter(_runs))]


def _server() -> Any:
    """The host's server; None where none runs. It is never imported: whoever runs it has it."""
    return getattr(getattr(sys.modules.get("server"), "PromptServer", None), "instance", None)
