"""Which file each node has saved last: where it is gone, the next run makes it again."""

from __future__ import annotations

from pathlib import Path

from comfy_execution.utils import get_executing_context

_saved: dict[str, Path] = {}  # the last one, by the node's id, of all workflows
_gone: dict[str, int] = {}  # how often one of its files was found gone


def remember(path: Path) -> None:
    """Notes a file that the running node has saved."""
    if context := get_executing_context():
        _saved[context.node_id] = path


def times_gone() -> int:
    """How often the running node was found without the file that it had saved last.

    The host runs a node anew where this has changed, instead of taking its last result.
    """
    context = get_executing_context()
    if context is None:
        return 0
    last = _saved.get(context.node_id)
    if last and not last.exists():
        del _saved[context.node_id]
        _gone[context.node_id] = _gone.get(context.node_id, 0) + 1
    return _gone.get(context.node_id, 0)
