"""What a training step makes the CPU wait for: one reading of numbers, and no copy of the state.

Draws by importance wait for the velocities of each loss besides.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import Any

import pytest
import torch

from erase_engine.config import EraseConfig, LossWeights
from erase_engine.lora.adapters import LoraSet
from erase_engine.training.loop import StepReport, train_erasure

CONFIG = EraseConfig(
    weights=LossWeights(esd=1.0, attention=0.1, keep=1.0, rsc=0.01),
    **{"steps": 9, "batch": 4, "budget_every": 2, "attack": 0.5, "width": 32, "height": 32},
    **{"trajectories": 4, "trajectory_steps": 4},
)


@pytest.mark.parametrize(
    ("changes", "velocities"),
    [({"solver": "alternate"}, 0), ({"solver": "budget"}, 0), ({"importance": 0.7}, 2)],
    ids=["alternate", "budget", "by importance"],
)
def test_a_step_reads_numbers_once_and_copies_no_state(
    small_flow: Any,
    encoded: Any,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    velocities: int,
) -> None:
    """Counted where the engine asks for them: on a CPU, a copy to the CPU is none.

    Rows of prompts (`take`) and the budget's float64 multiplier never leave the CPU.
    """
    asked: Counter[str] = Counter()

    def count(owner: type, name: str) -> None:
        real = getattr(owner, name)

        def counted(self: Any, *args: Any, **options: Any) -> Any:
            caller = sys._getframe(1)
            from_engine = "erase_engine" in caller.f_code.co_filename
            counts = caller.f_code.co_name != "take" and getattr(self, "dtype", 0) != torch.float64
            asked[name] += from_engine and counts
            return real(self, *args, **options)

        monkeypatch.setattr(owner, name, counted)

    def on_step(report: StepReport) -> None:
        if report.step == 4:
            for name in ("item", "tolist", "cpu", "__bool__", "__float__"):
                count(torch.Tensor, name)
            count(LoraSet, "state_dict")
        if report.step == 6:
            monkeypatch.undo()

    config = EraseConfig(**{**vars(CONFIG), **changes})
    generator = torch.Generator().manual_seed(0)
    train_erasure(small_flow, encoded, config, generator=generator, on_step=on_step)
    assert +asked == +Counter(tolist=2, cpu=2 * velocities)  # of two steps
