"""Which files each node has saved: where one is gone, the next run makes it again."""

from __future__ import annotations

from pathlib import Path

from comfy_execution.utils import get_executing_context

_saved: dict[str, set[Path]] = {}  # by the node's id, of all workflows
_gone: dict[str, int] = {}  # how often one of its files was found gone


def remember(path: Path) -> None:
    """Notes a file that the running node has saved."""
    if context := get_executing_context():
        _saved.setdefault(context.node_id, set()).add(path)


def times_gone() -> int:
    """How often the running node was found without a file that it had saved.

    The host runs a node anew where this has changed, instead of taking its last result.
    """
    context = get_executing_context()
    if context is None:
        return 0
    mine = _saved.get(context.node_id, set())
    gone = {path for path in mine if not path.exists()}
    if gone:
        mine -= gone
        _gone[context.node_id] = _gone.get(context.node_id, 0) + 1
    return _gone.get(context.node_id, 0)
