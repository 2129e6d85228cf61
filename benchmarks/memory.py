"""Memory and time of one training step at full width: `python -m benchmarks.memory`.

Every case runs in a process of its own, and its row goes to a JSON file at once: a run that was
stopped goes on where it was. `--whole` measures all 19 + 38 blocks with float8 weights.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from itertools import product
from pathlib import Path
from typing import Any

from .pack import ROOT

RESULT = ROOT / "benchmarks" / "results" / "memory.json"
NAMES = ("depth", "singles", "pixels", "dtype", "checkpointing")
CASES = [
    dict(zip(NAMES, (blocks, blocks, *rest), strict=True))
    for *rest, blocks in product(
        (256, 512), ("bfloat16", "float8_e4m3fn", "float32"), (True, False), (1, 2, 3)
    )
]
WHOLE = dict(zip(NAMES, (19, 38, 512, "float8_e4m3fn", True), strict=True))
# Large blocks go back to the system when they are freed: the peak is of what was in use.
MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(2**20), "MALLOC_TRIM_THRESHOLD_": str(2**20)}
MEGABYTE = 2**20


def main() -> None:
    options = parsed()
    if options.case:
        print(json.dumps(measured(json.loads(options.case), options.threads)))
        return
    cases = [WHOLE] if options.whole else CASES[: options.first]
    for case in cases:
        if not known(case):
            row = in_own_process(case, options.threads)
            save(rows=[*load()["rows"], row])
            print(json.dumps(row), flush=True)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--first", type=int, default=None, help="so many of the cases")
    parser.add_argument("--whole", action="store_true", help="19 + 38 blocks: 16 GB, an hour")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    return parser.parse_args()


# --- one case ----------------------------------------------------------------------------------


def in_own_process(case: dict[str, Any], threads: int) -> dict[str, Any]:
    """The case's row; what the process tells of its passes goes to stderr."""
    command = [sys.executable, "-m", "benchmarks.memory", "--threads", str(threads)]
    done = subprocess.run(
        [*command, "--case", json.dumps(case)],
        env={**os.environ, **MALLOC},
        cwd=ROOT,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return case | json.loads(done.stdout.splitlines()[-1])


def measured(case: dict[str, Any], threads: int) -> dict[str, Any]:
    """Peak megabytes above a process without a model, seconds of a step and of a forward pass."""
    import torch

    from . import full_width
    from .step import Clock, full_step

    torch.set_num_threads(threads)
    before = status("VmRSS")
    model = full_width.build(case["depth"], case["singles"], case["dtype"])
    weights = status("VmRSS") - before
    clock = Clock(lambda: status("VmHWM") - before)
    full_step(model, case["pixels"], checkpointing=case["checkpointing"], clock=clock)
    return {
        "measured_mb": round(status("VmHWM") - before),
        "weights_mb": round(weights),
        "measured_s": round(clock.elapsed(), 2),
        "forward_s": round(clock.forward_s(), 2),
    }


def status(name: str) -> float:
    """A figure of this process, in megabytes: VmRSS now, VmHWM at its highest."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) * 1024 / MEGABYTE
    raise KeyError(name)


# --- the file ----------------------------------------------------------------------------------


def load() -> dict[str, Any]:
    return json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {"rows": []}


def known(case: dict[str, Any]) -> bool:
    return any(case.items() <= row.items() for row in load()["rows"])


def save(**parts: Any) -> None:
    """Puts parts into the file: all or nothing, whenever the run is stopped."""
    import torch

    versions = {"torch": torch.__version__, "python": platform.python_version()}
    head = {"command": "python -m benchmarks.memory", "versions": versions}
    text = json.dumps({**head, **load(), **parts}, indent=1) + "\n"
    beside = RESULT.with_suffix(".part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(RESULT)


if __name__ == "__main__":
    started = time.time()
    main()
    print(f"{time.time() - started:.0f} s", file=sys.stderr)
