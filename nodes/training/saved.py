"""Which file each node has saved last: where it is gone, the next run makes it again."""

from __future__ import annotations

from pathlib import Path

from comfy_execution.utils import get_executing_context

from ..host.origin import origin_of
from ..host.page import running_graph

_saved: dict[tuple[str, str], Path] = {}  # the last one, by what `_place` gives
_gone: dict[tuple[str, str], int] = {}  # how often one of its files was found gone


def remember(path: Path) -> None:
    """Notes a file that the running node has saved."""
    if place := _place():
        _saved[place] = path


def times_gone() -> int:
    """How often the running node was found without the file that it had saved last.

    The host runs a node anew where this has changed, instead of taking its last result.
    """
    place = _place()
    if place is None:
        return 0
    last = _saved.get(place)
    if last and not last.exists():
        del _saved[place]
        _gone[place] = _gone.get(place, 0) + 1
    return _gone.get(place, 0)


def _place() -> tuple[str, str] | None:
    """The running node's id and all that it is made from: the host keeps results by both.

    The id alone is that of nodes in other workflows as well.
    """
    context = get_executing_context()
    if context is None:
        return None
    own = running_graph().get(context.node_id, {}).get("inputs", {})
    return context.node_id, origin_of(sorted(own))
