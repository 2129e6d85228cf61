"""What watching the attention costs: a training pass with and without, at full width."""

from __future__ import annotations

from collections.abc import Callable
from statistics import median
from typing import Any

import torch
from eraseanything_pack.erase_engine.backends.base import Capture
from eraseanything_pack.erase_engine.lora import target_names
from eraseanything_pack.nodes.host import training_session

from .full_width import TOKENS, build, encoded_plan
from .process_memory import forget_peak
from .step import now, since

PIXELS = (256, 384, 512)  # 256, 576 and 1024 image tokens
WAYS = ("without", "with")


def capture_costs(repeats: int, peak_mb: Callable[[], float]) -> list[dict[str, Any]]:
    """A row for each size: processor seconds and megabytes of a pass, 1 + 1 blocks in bf16.

    With and without take turns, so that both see the same machine. Activations are kept, so that
    what watching keeps shows at the peak.
    """
    rows, generator = [], torch.Generator().manual_seed(0)
    with training_session(build(), checkpointing=False) as backend:
        slices = backend.linear_slices(target_names("text_qk", 1))
        lora = backend.adapters(slices, rank=8, generator=generator)
        with lora.attach(slices):
            for pixels in PIXELS:
                x_t = torch.randn(1, 16, pixels // 8, pixels // 8, generator=generator)
                rows.append(compared(backend, x_t, repeats, peak_mb))
    return rows


def compared(
    backend: Any, x_t: torch.Tensor, repeats: int, peak_mb: Callable[[], float]
) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    megabytes = dict(seconds) | {way: [] for way in WAYS}
    for _ in range(repeats):
        for way in WAYS:
            forget_peak()
            before, began = peak_mb(), now()
            training_pass(backend, x_t, watched=way == "with")
            seconds[way].append(since(began)[1])
            megabytes[way].append(peak_mb() - before)
    time, space = ({way: median(v) for way, v in each.items()} for each in (seconds, megabytes))
    return {
        "image_tokens": x_t.shape[2] * x_t.shape[3] // 4,
        "repeats": repeats,
        "processor_s": {way: round(value, 2) for way, value in time.items()},
        "peak_mb": {way: round(value) for way, value in space.items()},
        "ratio": round(time["with"] / time["without"], 3),
    }


def training_pass(backend: Any, x_t: torch.Tensor, *, watched: bool) -> None:
    """Forward and backward; the loss is a sum, of what is watched too."""
    request = Capture(torch.tensor(TOKENS), (0,)) if watched else None
    v = backend.velocity(x_t, torch.tensor([0.6]), encoded_plan().concept, capture=request)
    loss = v.square().mean()
    if request:
        loss = loss + request.mass[0].mean()
    loss.backward()
