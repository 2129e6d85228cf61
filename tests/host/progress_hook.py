"""What the host's progress bar is told by a training, and the Cancel button pressed from there."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
import graph
import pytest
from eraseanything_pack.erase_engine import atomic_file as atomic_file
from eraseanything_pack.nodes.training import node_host

Cancel = comfy.model_management.InterruptProcessingException
Hook = Callable[[int, int], None]
STEPS = graph.ERASE["steps"]
PER_STEP = 2 * 3 * graph.ERASE["batch"]  # forwards: an erase and a preserve step


def watch_progress(
    monkeypatch: pytest.MonkeyPatch, watch: Hook, *, preparing: bool = False
) -> None:
    """The training's bar; with `preparing` those of planning and encoding as well."""
    if not preparing:
        monkeypatch.setattr(node_host, "sampling_progress", lambda total: lambda: None)

    def hook(done: int, total: int, *preview: Any, **node: Any) -> None:
        watch(done, total)

    monkeypatch.setattr(comfy.utils, "PROGRESS_BAR_HOOK", hook)
    for limit in ("INTERVAL", "PERCENT"):  # newer hosts leave out what comes too often
        monkeypatch.setattr(comfy.utils, f"PROGRESS_THROTTLE_MIN_{limit}", 0, raising=False)


def interrupt_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """As the Cancel button, in the pass after which `step` steps are done."""

    def hook(done: int, total: int) -> None:
        if done >= total - (STEPS - step) * PER_STEP:
            comfy.model_management.interrupt_current_processing(True)

    watch_progress(monkeypatch, hook)
