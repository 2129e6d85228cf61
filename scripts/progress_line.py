"""One line that tells a person how far a running workflow is."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from comfy_server import Progress


def show(text: str, *, final: bool = True) -> None:
    """Rewrites the line; where nobody watches, only what is final is written."""
    if sys.stdout.isatty():
        erase_rest = "\x1b[K"
        print(f"\r  {text}{erase_rest}", end="\n" if final else "", flush=True)
    elif final:
        print(f"  {text}", flush=True)


@dataclass
class ProgressLine:
    """Shows the node at work and, at its end, the time it took.

    Called with each `Progress` of a run; `seconds` keeps how long each node took.
    """

    prompt: Mapping[str, Any]
    seconds: dict[str, float] = field(default_factory=dict)
    _node_id: str = ""
    _begun: float = 0.0

    def __call__(self, progress: Progress) -> None:
        if progress.node_id != self._node_id:
            self.close()
            self._node_id, self._begun = progress.node_id, time.monotonic()
        count = f" {progress.value}/{progress.maximum}" if progress.maximum else ""
        show(f"{self._title()}{count}", final=False)

    def close(self) -> None:
        """Ends the line of the node that was at work."""
        if self._node_id:
            elapsed = time.monotonic() - self._begun
            self.seconds[self._node_id] = self.seconds.get(self._node_id, 0.0) + elapsed
            show(f"{self._title()}: {elapsed:.1f} s")
        self._node_id = ""

    def _title(self) -> str:
        return self.prompt[self._node_id]["_meta"]["title"]
