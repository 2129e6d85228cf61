"""What the inputs of the running node come from, told from any other by a few letters."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

from comfy_execution.utils import get_executing_context

from .page import running_graph


def origin_of(inputs: Sequence[str]) -> str:
    """A digest of all nodes before these inputs, with their widgets; "" where no server runs it."""
    context, graph = get_executing_context(), running_graph()
    if context is None or not graph:
        return ""
    own = graph.get(context.node_id, {}).get("inputs", {})  # none for a node of another's making
    links = [own.get(name) for name in inputs] if own else [[node, 0] for node in graph]
    before, waiting = {}, list(links)
    while waiting:
        link = waiting.pop()
        node = link[0] if isinstance(link, list) and len(link) == 2 else None
        if isinstance(node, str) and node in graph and node not in before:
            before[node] = [graph[node].get("class_type"), graph[node].get("inputs")]
            waiting += (graph[node].get("inputs") or {}).values()
    text = json.dumps([links, before], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
