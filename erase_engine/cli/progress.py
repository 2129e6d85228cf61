"""How far a training is, on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import io
import sys

from ..training.loop import StepReport

SHOWN_EVERY = 0.05  # of all work, where stderr is no terminal
FORMAT = "{percentage:3.0f}% {desc}, {remaining} left{postfix}"


class Progress:
    """Shows each step by forward passes, which take alike long."""

    def __init__(self) -> None:
        from tqdm import tqdm  # of the headless extra

        self._terminal = sys.stderr.isatty()
        file = sys.stderr if self._terminal else io.StringIO()
        self._bar = tqdm(
            total=0, file=file, unit="pass", bar_format=None if self._terminal else FORMAT
        )
        self._shown = 0.0  # share of the work

    def __call__(self, report: StepReport) -> None:
        if report.stage in ("solving", "solved"):  # no pass of the model
            return
        bar, share = self._bar, report.forwards / report.total_forwards
        if not bar.total and report.done_before:  # an earlier run has done what comes before
            bar.n = bar.initial = report.forwards
        bar.total = report.total_forwards
        bar.set_description_str(
            f"step {report.step}/{report.total}" if report.step else "sampling states",
            refresh=False,
        )
        if report.losses:  # a pass that samples leaves the last step's
            bar.set_postfix({k: f"{v:.4f}" for k, v in report.losses.items()}, refresh=False)
        bar.update(report.forwards - bar.n)
        if not self._terminal and (report.last or share >= self._shown + SHOWN_EVERY):
            self._shown = share
            sys.stderr.write(f"{bar}\n")
        if report.last:
            bar.close()
