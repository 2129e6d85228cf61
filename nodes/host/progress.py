"""The host's progress bar and its cancel button."""

from __future__ import annotations

from collections.abc import Callable

import comfy.model_management
import comfy.utils

from ...erase_engine.training.loop import StepReport


def step_progress() -> Callable[[StepReport], None]:
    """Moves the node's progress bar, by forward passes; raises where the user has cancelled."""
    bar = comfy.utils.ProgressBar(1)

    def on_step(report: StepReport) -> None:
        if report.stage not in ("solving", "solved"):  # no pass of the model
            bar.update_absolute(report.forwards, report.total_forwards)
        comfy.model_management.throw_exception_if_processing_interrupted()

    return on_step


def sampling_progress(total: int) -> Callable[[], None]:
    """The same for a number of equal steps."""
    bar = comfy.utils.ProgressBar(total)

    def on_step() -> None:
        bar.update(1)
        comfy.model_management.throw_exception_if_processing_interrupted()

    return on_step
