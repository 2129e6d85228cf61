"""Core's own Train LoRA node beside ours: seconds of a pass and memory, on one kind of model.

A pass is a forward of one sample; a backward counts as two, checkpointing's second forward as
none. Both train for some steps, and what comes after the first of them is timed: set-up, sampling
and the first touch of memory are in nobody's seconds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import comfy.utils
import torch
from comfy_extras.nodes_train import TrainLoraNode
from eraseanything_pack.erase_engine.config import LoraConfig
from eraseanything_pack.erase_engine.training.loop import StepReport, train_erasure
from eraseanything_pack.erase_engine.training.teacher import FORWARD_AND_BACKWARD
from eraseanything_pack.nodes.host.session import training_session

from .full_width import CONFIG, config_of, encoded_plan
from .step import now

RANK = 8
STEPS = {"core": 3, "ours": 2}  # after the first: 6 passes each
# What can be trained: the node knows one choice, all there is; ours has no more than attention's.
TRAINED = {
    "core": "every Linear, norm scale and bias",
    "text_qk": "text's query and key of the double blocks",
    "text_pooled": "text's projections of the double blocks' attention, and the pooled text",
    "all_attention": "all projections of the double blocks' attention",
}


class Laps:
    """Passes so far and the clocks, noted after each step."""

    def __init__(self) -> None:
        self.noted: list[tuple[int, tuple[float, float]]] = []

    def note(self, passes: int) -> None:
        self.noted.append((passes, now()))

    def per_pass(self) -> dict[str, float]:
        """Seconds of the passes after the first step, by the clock and of processor time."""
        (before, began), (after, ended) = self.noted[0], self.noted[-1]
        passes = after - before
        wall, processor = ((b - a) / passes for a, b in zip(began, ended, strict=True))
        return {
            "passes": passes,
            "s_per_pass": round(wall, 2),
            "processor_s_per_pass": round(processor, 3),
        }


def trained(way: str, model: Any, pixels: int) -> dict[str, Any]:
    """A row: what one way trains and how long its passes take."""
    laps = Laps()
    count = core(model, pixels, laps) if way == "core" else ours(model, pixels, way, laps)
    return {"way": way, "trains": TRAINED[way], "weights_trained": count, **laps.per_pass()}


def ours(model: Any, pixels: int, targets: str, laps: Laps) -> int:
    """Our recipe with one sample in each half of a step; its teacher's passes are cached."""
    adapter = LoraConfig(rank=RANK, targets=targets)  # type: ignore[arg-type]
    config = config_of(pixels, steps=STEPS["ours"], lora=adapter)

    def on_step(report: StepReport) -> None:
        if report.step:
            laps.note(report.forwards)

    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode(), training_session(model, guidance=config.guidance) as backend:
        done = train_erasure(backend, encoded_plan(), config, generator=generator, on_step=on_step)
    return weights_in(done.state)


def core(model: Any, pixels: int, laps: Laps) -> int:
    """The node with its defaults, but for the number of steps; batch 1 and checkpointing are its.

    Each of its steps is one forward and one backward pass.
    """
    prompt = encoded_plan().concept
    extra = {"pooled_output": prompt.pooled, "guidance": 3.5}
    latents = torch.randn(2, 1, CONFIG["out_channels"], pixels // 8, pixels // 8)
    given = {
        **defaults(),
        "model": model,
        "positive": [[prompt.text, extra]],
        "steps": STEPS["core"],
        "rank": RANK,
    }
    lists = {name: [value] for name, value in given.items()}  # as the host hands them over
    lists["latents"] = [{"samples": latent} for latent in latents]  # 0.3.75 fails on a single one
    with torch.inference_mode(), followed(lambda step: laps.note(FORWARD_AND_BACKWARD * step)):
        _, state, *_ = TrainLoraNode.execute(**lists).args
    return weights_in(state)


def defaults() -> dict[str, Any]:
    """What the node's widgets say when nobody touches them; hosts differ in which there are."""
    inputs = TrainLoraNode.define_schema().inputs
    return {each.id: each.default for each in inputs if hasattr(each, "default")}


@contextmanager
def followed(on_step: Callable[[int], None]) -> Iterator[None]:
    """The host's progress hook calls with the number of steps done."""

    def hook(done: int, *rest: Any, **more: Any) -> None:
        on_step(done)

    comfy.utils.set_progress_bar_global_hook(hook)
    try:
        yield
    finally:
        comfy.utils.set_progress_bar_global_hook(None)


def weights_in(state: Mapping[str, torch.Tensor]) -> int:
    return sum(value.numel() for key, value in state.items() if not key.endswith("alpha"))
