"""What this machine's GPU makes of it: `python -m benchmarks.gpu`, eight minutes at most.

Parts, each with its rows in one JSON file, which is written after every part:

- exact: LoRA gradients of one block of FLUX.1's width, in every kind of numbers, beside float32 on
  the CPU; the model's weights before and after.
- world: the tiny world's star erased on the GPU and on the CPU, both judged on the CPU.
- whole: a step on all of FLUX.1, random weights: seconds, and the peak beside its estimate.
- partial: the same while half of the weights stay off the card.
- core: ComfyUI's own Train LoRA beside ours.

`--rehearse` runs every line of it on the CPU, in small, and writes a file of its own.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import comfy.model_management
import comfyui_version
import torch

from ..result_file import RESULTS, versions, write_result
from .exact import exact
from .setting import Rows, Setting
from .steps import core, partial, whole
from .world import judged, world

RESULT, REHEARSAL, SECONDS = RESULTS / "gpu.json", RESULTS / "gpu_rehearsal.json", 480
PARTS: dict[str, Callable[[Setting], Rows]] = {
    each.__name__: each for each in (exact, world, whole, partial, core)
}


def read_options(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The command's options; what a rehearsal finds never takes the place of a card's figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rehearse", action="store_true", help="in small, on the CPU")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--seconds", type=int, default=SECONDS, help="no row begins later")
    parser.add_argument("--found", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help="JSON; default: benchmarks/results/")
    options = parser.parse_args(arguments)
    options.out = options.out or (REHEARSAL if options.rehearse else RESULT)
    return options


def main() -> None:
    options = read_options()
    if options.found:
        print(json.dumps(judged(options.found)))
        return
    setting = Setting.rehearsal() if options.rehearse else Setting(card())
    result: dict[str, Any] = {
        "command": "python -m benchmarks.gpu" + " --rehearse" * options.rehearse,
        "versions": {**versions(), "comfyui": comfyui_version.__version__},
        "card": torch.cuda.get_device_name(setting.device) if setting.on_gpu else "none, rehearsed",
    }
    began = time.monotonic()
    for part in options.parts:
        if time.monotonic() - began > options.seconds:
            break
        rows = result[part] = []
        try:
            for row in PARTS[part](setting):
                rows.append(row)
                print(part, json.dumps(row), flush=True)
                if time.monotonic() - began > options.seconds:
                    break
        except Exception as error:  # the other parts are worth having
            rows.append({"error": f"{type(error).__name__}: {error}"[:600]})
            print(part, rows[-1], flush=True)
        write_result(options.out, result)


def card() -> torch.device:
    """The GPU; SystemExit where there is none."""
    if not torch.cuda.is_available():
        raise SystemExit("Got no CUDA GPU, expected one. Add --rehearse to try it on the CPU.")
    return comfy.model_management.get_torch_device()


if __name__ == "__main__":
    main()
