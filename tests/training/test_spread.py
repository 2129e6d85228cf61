"""A training that several processes share out; here threads stand for them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from threading import Barrier
from typing import Any

import pytest
import torch
from torch import Tensor
from training_runs import PAPER, train

from erase_engine.backends.spread import spread
from erase_engine.training.encoded_prompts import EncodedPrompts
from erase_engine.training.loop import Erasure


class Thread:
    """One of `count` processes that tell each other all."""

    def __init__(self, index: int, told: list[Any], barrier: Barrier) -> None:
        self.index, self.count, self._told, self._barrier = index, len(told), told, barrier

    def _all(self, own: Tensor) -> list[Tensor]:
        self._told[self.index] = own.detach().clone()
        self._barrier.wait(20)
        found = list(self._told)
        self._barrier.wait(20)  # nobody goes on before all have seen it
        return found

    def gathered(self, own: Tensor) -> Tensor:
        return torch.cat(self._all(own))

    def mean(self, own: Tensor) -> Tensor:
        return torch.stack(self._all(own)).mean(0)


def together(
    count: int, model: Any, encoded: EncodedPrompts, changes: dict[str, Any]
) -> list[tuple[Any, Erasure]]:
    """Each one's model and erasure."""
    told: list[Any] = [None] * count
    barrier = Barrier(count)

    def run(index: int) -> tuple[Any, Erasure]:
        own = deepcopy(model)
        try:
            shared = spread(own, Thread(index, told, barrier))
            return own, train(shared, encoded, **changes)
        except BaseException:
            barrier.abort()
            raise

    with ThreadPoolExecutor(count) as threads:
        return list(threads.map(run, range(count)))


@pytest.mark.parametrize("count", [2, 3])
@pytest.mark.parametrize(
    "changes",
    [
        {"attack": 0.5, "attention_blocks": (1,)},
        {"solver": "budget", "batch": 5},
        {"importance": 0.7},
        {"importance": 0.7, "steps": 20, "cooldown": 0.25, "settled": 0.7},
        PAPER,
    ],
    ids=["attacked", "uneven", "by importance", "ends sooner", "fresh"],
)
def test_all_have_the_lora_of_one(
    small_flow: Any, encoded: EncodedPrompts, count: int, changes: dict[str, Any]
) -> None:
    [(alone, expected)] = together(1, small_flow, encoded, changes)
    for model, found in together(count, small_flow, encoded, changes):
        assert found.forwards == expected.forwards
        assert model.samples < 0.7 * alone.samples  # an equal part; a little more where uneven
        for name, value in expected.state.items():
            torch.testing.assert_close(found.state[name], value, rtol=0, atol=1e-5)
