"""How much memory this process holds and held, as Linux tells it."""

from __future__ import annotations

import gc
from pathlib import Path


def megabytes(name: str) -> float:
    """VmRSS is what it holds now, VmHWM the most since the start or `forget_peak`."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(name)


def forget_peak() -> None:
    """VmHWM begins anew from what is in use."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
