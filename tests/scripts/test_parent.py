"""A worker of a benchmark that is killed does not go on working."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
PARENT = """
import time
from multiprocessing import get_context
from benchmarks.parent import end_with_parent

def work(started):
    end_with_parent()
    started.send(True)
    time.sleep(600)

if __name__ == "__main__":
    told, started = get_context("spawn").Pipe(duplex=False)
    worker = get_context("spawn").Process(target=work, args=(started,))
    worker.start()
    told.recv()
    print(worker.pid, flush=True)
    time.sleep(600)
"""


def running(process: int) -> bool:
    """Whether it has neither ended nor waits to be buried."""
    status = Path(f"/proc/{process}/stat")
    return status.exists() and status.read_text().rsplit(")", 1)[1].split()[0] != "Z"


def test_a_worker_ends_with_its_killed_parent(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(PARENT)
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        [sys.executable, script], env=environment, stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        worker = int(parent.stdout.readline())
        assert running(worker)
        parent.kill()
    for _ in range(200):
        if not running(worker):
            return
        time.sleep(0.1)
    os.kill(worker, 9)
    raise AssertionError("It went on working.")
