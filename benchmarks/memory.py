"""Memory and time of one training step at full width: `python -m benchmarks.memory`.

Every case runs in a process of its own, and its row goes to a JSON file at once: a run that was
stopped goes on where it was. `--whole` measures all 19 + 38 blocks with float8 weights.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from itertools import product
from multiprocessing import get_context
from typing import Any

from .pack import import_pack

import_pack()

import comfyui_version
import torch
from eraseanything_pack.erase_engine.config import EraseConfig, LoraConfig
from eraseanything_pack.erase_engine.memory import MemoryEstimate
from eraseanything_pack.nodes.training.memory_check import peak_of_step

from .capture import capture_costs, operations
from .cards import cards_table
from .core import RANK, TRAINED, trained
from .full_width import build, config_of, encoded_plan
from .process_memory import forget_peak, megabytes
from .result_file import RESULTS, versions, write_result
from .step import Clock, full_step, predicted_seconds

RESULT = RESULTS / "memory.json"
NAMES = ("depth", "singles", "pixels", "dtype", "checkpointing", "rank")


def case_of(*values: Any) -> dict[str, Any]:
    return dict(zip(NAMES, values, strict=True))


# Quick ones first: a run that is stopped early has measured every kind of case.
CASES: list[dict[str, Any]] = [
    *(
        case_of(blocks, blocks, pixels, dtype, kept, RANK)
        for dtypes in (("bfloat16", "float8_e4m3fn"), ("float32",))
        for blocks, pixels, dtype, kept in product((1, 2, 3), (256, 512), dtypes, (True, False))
    ),
    *(case_of(2, 2, 256, "bfloat16", True, rank) for rank in (64, 256)),
]
CORE_CASE = {"depth": 2, "singles": 2, "pixels": 256, "dtype": "bfloat16"}
WHOLE = case_of(19, 38, 512, "float8_e4m3fn", True, RANK)
REPEATS = 4  # of a pass with and without watching
MEGABYTE = 2**20
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # of glibc's malloc.h


def main() -> None:
    options = parsed()
    if options.cards:
        print(cards_table())
        return
    if options.core:
        save(core=compared_with_core(options.threads))
        return
    if options.capture:
        save(capture=in_own_process(measured_capture, options.threads))
        return
    cases = [WHOLE] if options.whole else CASES[: options.first]
    for case in cases:
        if not known(case):
            row = case | in_own_process(measured, options.threads, case)
            save(rows=[*load()["rows"], row])
            print(json.dumps(row), file=sys.stderr, flush=True)
    save(rows=load()["rows"])
    print(table(load()["rows"]))


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="one wastes least")
    parser.add_argument("--first", type=int, default=None, help="so many of the cases")
    parser.add_argument("--whole", action="store_true", help="19 + 38 blocks: 16 GB, an hour")
    parser.add_argument("--core", action="store_true", help="core's own Train LoRA beside ours")
    parser.add_argument("--capture", action="store_true", help="the cost of watching attention")
    parser.add_argument("--cards", action="store_true", help="a table of what fits on which card")
    return parser.parse_args()


# --- one case ----------------------------------------------------------------------------------


def in_own_process(measure: Callable[..., Any], *arguments: Any) -> Any:
    """Its result, by a fork of this process, which has imported everything and run nothing."""
    with ProcessPoolExecutor(1, mp_context=get_context("fork")) as pool:
        return pool.submit(measure, *arguments).result()


def measured_capture(threads: int) -> dict[str, Any]:
    give_back_freed_memory()
    torch.set_num_threads(threads)
    return {
        "command": "python -m benchmarks.memory --capture",
        "threads": threads,
        "operations": operations(),
        "rows": capture_costs(REPEATS),
    }


def compared_with_core(threads: int) -> dict[str, Any]:
    ways = {name: in_own_process(measured_training, threads, name) for name in TRAINED}
    return {
        "command": "python -m benchmarks.memory --core",
        "threads": threads,
        "host": comfyui_version.__version__,
        **CORE_CASE,
        "rank": RANK,
        "batch": 1,
        "checkpointing": True,
        "rows": list(ways.values()),
    }


def measured_training(threads: int, way: str) -> dict[str, Any]:
    """A row of `core`, with the peak above what the model alone takes."""
    give_back_freed_memory()
    torch.set_num_threads(threads)
    sizes = CORE_CASE["depth"], CORE_CASE["singles"], CORE_CASE["dtype"]
    model = build(*sizes, inference=False)  # core's node can't train on inference tensors
    forget_peak()
    before = megabytes("VmRSS")
    row = trained(way, model, CORE_CASE["pixels"])
    return row | {"peak_above_weights_mb": round(megabytes("VmHWM") - before)}


def measured(threads: int, case: dict[str, Any]) -> dict[str, Any]:
    """Peak megabytes above a process without a model; seconds of processor time.

    Those by the clock stand beside them: they tell little on a machine that others use as well.
    """
    give_back_freed_memory()
    torch.set_num_threads(threads)
    before = megabytes("VmRSS")
    model = build(case["depth"], case["singles"], case["dtype"])
    weights = megabytes("VmRSS") - before
    clock = Clock(lambda: megabytes("VmHWM") - before)
    config = setting_of(case["pixels"], case["rank"])
    kept = {"checkpointing": case["checkpointing"], "clock": clock}
    full_step(model, config, encoded_plan(), **kept)
    wall, processor = clock.elapsed()
    return {
        "targets": config.lora.targets,
        "threads": threads,
        "measured_mb": round(megabytes("VmHWM") - before),
        "weights_mb": round(weights),
        "measured_s": round(processor, 2),
        "forward_s": round(clock.forward(), 2),
        "clock_s": round(wall, 2),
    }


def give_back_freed_memory() -> None:
    """Blocks above a megabyte are the system's again once freed: the peak is of what was in use."""
    libc = ctypes.CDLL(None)
    for option in (M_MMAP_THRESHOLD, M_TRIM_THRESHOLD):
        libc.mallopt(option, MEGABYTE)


# --- predictions -------------------------------------------------------------------------------


def setting_of(pixels: int, rank: int) -> EraseConfig:
    """What a case trains with."""
    return config_of(pixels, lora=LoraConfig(rank=rank, targets="text_pooled"))


@cache
def predicted(
    *, depth: int, singles: int, pixels: int, dtype: str, checkpointing: bool, rank: int
) -> MemoryEstimate:
    """What the node would say of a case."""
    encoded = encoded_plan()
    return peak_of_step(
        build(depth, singles, dtype, device="meta"),
        setting_of(pixels, rank),
        encoded.longest,
        watched=encoded.tokens.all.shape[1],
        checkpointing=checkpointing,
    )


def with_prediction(row: dict[str, Any]) -> dict[str, Any]:
    """The row, and what is said of it now."""
    seconds = predicted_seconds(row["forward_s"], trained=2, checkpointing=row["checkpointing"])
    size = predicted(**{name: row[name] for name in NAMES}).total / MEGABYTE
    return row | {"predicted_mb": round(size), "predicted_s": round(seconds, 2)}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: a line for each row, predictions beside what was measured."""
    names = (*NAMES, "predicted_mb", "measured_mb", "predicted_s", "measured_s")
    lines = [names, ["---"] * len(names), *([row[name] for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(map(str, line)) + " |" for line in lines)


# --- the file ----------------------------------------------------------------------------------


def load() -> dict[str, Any]:
    return json.loads(RESULT.read_text("utf-8")) if RESULT.exists() else {"rows": []}


def known(case: dict[str, Any]) -> bool:
    return any(case.items() <= row.items() for row in load()["rows"])


def save(**parts: Any) -> None:
    """Puts parts into the file: all or nothing, whenever the run is stopped."""
    head = {"command": "python -m benchmarks.memory", "versions": versions()}
    result = {**head, **load(), **parts}
    result["rows"] = [with_prediction(row) for row in result["rows"]]
    write_result(RESULT, result)


if __name__ == "__main__":
    main()
