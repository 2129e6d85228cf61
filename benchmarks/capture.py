"""What watching the attention costs: a training pass with and without, at full width.

Three answers. Operations are counted, without any noise, also at the real depth. What is kept for
backward is counted in bytes. Processor time is measured, in pairs that take turns; on a machine
with other work it tells 2% apart only after many of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import torch
from eraseanything_pack.erase_engine.backends.comfy.model import ComfyFlowModel
from eraseanything_pack.erase_engine.interfaces import PIXELS_PER_TOKEN, AttentionCapture
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.nodes.training.memory_check import meta_twin
from torch import Generator, Tensor
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from .full_width import DEPTH, SINGLES, build, config_of, encoded_plan
from .step import now, since

PIXELS = (256, 384, 512)  # 256, 576 and 1024 image tokens
WAYS = ("without", "with")
MEGABYTE = 2**20


# --- counted -----------------------------------------------------------------------------------


def operations() -> list[dict[str, Any]]:
    """A row for each depth and size: what watching adds to the operations, in percent.

    A step has two passes, of which the erase half's is watched. Weights have no numbers here:
    every matrix product is counted by its sizes, a checkpointed block's second forward too.
    """
    rows = []
    for depth, singles in ((1, 1), (DEPTH, SINGLES)):
        with without_numbers(depth, singles) as backend:
            for pixels in PIXELS:
                watched = {"one": (depth - 1,), "all": tuple(range(depth))}
                plain = counted(backend, pixels, ())
                more = {k: counted(backend, pixels, v) - plain for k, v in watched.items()}
                rows.append({
                    "blocks": [depth, singles],
                    "image_tokens": (pixels // PIXELS_PER_TOKEN) ** 2,
                    "teraflops_of_a_pass": round(plain / 1e12, 2),
                    "gigaflops_of_watching_a_block": round(more["one"] / 1e9, 1),
                    "percent_of_a_step": {k: share(v, 2 * plain) for k, v in more.items()},
                })  # fmt: skip
    return rows


@contextmanager
def without_numbers(depth: int, singles: int) -> Iterator[ComfyFlowModel]:
    """A model of shapes alone, with our LoRA on it."""
    backend = ComfyFlowModel(meta_twin(build(depth, singles, device="meta")))
    with backend.session(), adapted(backend):
        yield backend


def counted(backend: ComfyFlowModel, pixels: int, blocks: tuple[int, ...]) -> int:
    with FlopCounterMode(display=False) as counter:
        training_pass(backend, noise(pixels), blocks)
    return counter.get_total_flops()


def share(part: float, whole: float) -> float:
    return round(100 * part / whole, 3)


# --- measured ----------------------------------------------------------------------------------


def capture_costs(repeats: int) -> list[dict[str, Any]]:
    """A row for each size: megabytes kept and processor seconds of a pass of 1 + 1 blocks in bf16.

    With and without take turns, so that both see the same machine.
    """
    with training_session(build(), checkpointing=False) as backend, adapted(backend):
        return [compared(backend, pixels, repeats) for pixels in PIXELS]


def compared(backend: Any, pixels: int, repeats: int) -> dict[str, Any]:
    blocks = dict(zip(WAYS, ((), (0,)), strict=True))
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    for turn in range(repeats):
        for way in WAYS[:: 1 if turn % 2 else -1]:
            began = now()
            training_pass(backend, noise(pixels), blocks[way])
            seconds[way].append(since(began)[1])
    least, middle = ({k: f(v) for k, v in seconds.items()} for f in (min, median))
    pairs = zip(*(seconds[way] for way in WAYS), strict=True)
    return {
        "image_tokens": (pixels // PIXELS_PER_TOKEN) ** 2,
        "repeats": repeats,
        "kept_mb": {way: round(kept_mb(backend, pixels, blocks[way]), 2) for way in WAYS},
        "least_s": {way: round(value, 3) for way, value in least.items()},
        "median_s": {way: round(value, 3) for way, value in middle.items()},
        "percent_of_a_step": {
            "least": share(least["with"] - least["without"], 2 * least["without"]),
            "median_of_pairs": share(median(b - a for a, b in pairs), 2 * middle["without"]),
        },
    }


def kept_mb(backend: Any, pixels: int, blocks: tuple[int, ...]) -> float:
    return kept_bytes(lambda: loss_of_pass(backend, noise(pixels), blocks)) / MEGABYTE


def kept_bytes(forward: Callable[[], object]) -> int:
    """Of all storages that a forward pass keeps for its backward."""
    kept: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        forward()
    return sum(tensor.untyped_storage().nbytes() for tensor in kept.values())


# --- a pass ------------------------------------------------------------------------------------


@contextmanager
def adapted(backend: Any) -> Iterator[None]:
    """Our recipe's LoRA."""
    config = config_of(PIXELS[0]).lora
    slices = backend.linear_slices(backend.target_names(config.targets))
    lora = backend.adapters(slices, rank=config.rank, generator=Generator().manual_seed(0))
    with lora.attach(slices):
        yield


def training_pass(backend: Any, x_t: Tensor, blocks: tuple[int, ...]) -> None:
    loss_of_pass(backend, x_t, blocks).backward()


def loss_of_pass(backend: Any, x_t: Tensor, blocks: tuple[int, ...]) -> Tensor:
    """A sum of everything that comes out, of what is watched in these blocks too."""
    plan = encoded_plan()
    request = AttentionCapture(plan.tokens.all, blocks) if blocks else None
    v = backend.velocity(x_t, torch.tensor([0.6]), plan.concept, capture=request)
    mass = request.mass.values() if request else ()
    return v.square().mean() + sum(each.mean() for each in mass)


def noise(pixels: int) -> Tensor:
    return torch.randn(1, 16, pixels // 8, pixels // 8, generator=Generator().manual_seed(0))
