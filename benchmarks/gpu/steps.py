"""Seconds and memory of a step on all of FLUX.1, with random weights."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch
from eraseanything_pack.erase_engine.config import LoraConfig
from eraseanything_pack.erase_engine.memory import GIGABYTE
from eraseanything_pack.nodes.training.memory_check import peak_of_step

from ..core import trained
from ..full_width import build, config_of, encoded_plan
from ..step import Clock, full_step
from .setting import TARGETS, Rows, Setting


def whole(setting: Setting) -> Rows:
    for dtype in ("float8_e4m3fn", "bfloat16"):
        model = setting.model(setting.depth, setting.singles, dtype)
        for pixels in setting.pixels:
            for batch in setting.batches:
                yield {"dtype": dtype, **timed_step(setting, model, dtype, pixels, batch)}
        comfy.model_management.unload_all_models()


def partial(setting: Setting) -> Rows:
    model = setting.model(setting.depth, setting.singles, "bfloat16")
    for share in (1.0, 0.5):
        kept_free = int(setting.room() - share * model.model_size()) if setting.on_gpu else 0
        row = timed_step(
            setting, model, "bfloat16", setting.pixels[0], 1, memory_required=kept_free
        )
        loaded = model.loaded_size() / GIGABYTE
        comfy.model_management.unload_all_models()
        yield {"share_on_the_card": share, "loaded_gb": round(loaded, 2), **row}


def core(setting: Setting) -> Rows:
    blocks = (2, 2) if setting.on_gpu else (1, 1)
    for way in ("core", "text_qk", "all_attention"):
        built = build(*blocks, "bfloat16", inference=False)
        model = comfy.model_patcher.ModelPatcher(built.model, setting.device, torch.device("cpu"))
        setting.forget_peak()
        row = trained(way, model, setting.pixels[0])
        setting.wait()
        comfy.model_management.unload_all_models()
        yield {**row, "peak_gb": round(setting.peak() / GIGABYTE, 2)}


def timed_step(
    setting: Setting,
    model: Any,
    dtype: str,
    pixels: int,
    batch: int,
    *,
    memory_required: int = 0,
) -> dict[str, Any]:
    """Seconds and peak of a step after a first one, and how often the card was waited for."""
    encoded = encoded_plan()
    config = config_of(pixels, batch=batch, keep_per_step=batch, lora=LoraConfig(targets=TARGETS))
    estimate = peak_of_step(
        build(setting.depth, setting.singles, dtype, device="meta"),
        config,
        encoded.longest,
        watched=encoded.tokens.all.shape[1],
    )
    row: dict[str, Any] = {"pixels": pixels, "batch": batch}
    row["estimated_gb"] = round(estimate.total / GIGABYTE, 2)
    if setting.on_gpu and estimate.total + GIGABYTE > setting.room() and not memory_required:
        return row | {"left_out": "more than this card has"}
    options: dict[str, Any] = {"checkpointing": True, "memory_required": memory_required}
    clock = Clock(lambda: setting.peak() / 2**20)
    full_step(model, config, encoded, clock=clock, **options)
    setting.wait()
    setting.forget_peak()
    with counted_waits(setting) as waits:
        full_step(model, config, encoded, clock=clock, **options)
    setting.wait()
    seconds = clock.elapsed()[0]
    peak = round(setting.peak() / GIGABYTE, 2)
    return row | {"seconds": round(seconds, 3), "peak_gb": peak, "waits": len(waits)}


@contextmanager
def counted_waits(setting: Setting) -> Iterator[list[warnings.WarningMessage]]:
    """Collects a warning for each time that the computer waits for the card."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        if setting.on_gpu:
            torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            if setting.on_gpu:
                torch.cuda.set_sync_debug_mode("default")
