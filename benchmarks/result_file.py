"""The JSON files in benchmarks/results: what every one of them says, and how they are written."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from eraseanything_pack.erase_engine.atomic_file import atomic_file

from .pack import ROOT

RESULTS = ROOT / "benchmarks" / "results"


def versions() -> dict[str, str]:
    """Of what figures depend on."""
    return {"torch": torch.__version__, "python": platform.python_version()}


def read_result(path: Path) -> dict[str, Any] | None:
    """None where there is none yet."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def write_result(path: Path, result: Mapping[str, Any]) -> None:
    """All or nothing, whenever the run is stopped."""
    with atomic_file(path) as draft:
        draft.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
