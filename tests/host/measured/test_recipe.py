"""What the recipe fast does with a word and with a phrase that it has to train."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eraseanything_pack.benchmarks.erasure.methods import FAST
from eraseanything_pack.benchmarks.world import World


@pytest.mark.parametrize(("concept", "rank"), [("star", 8), ("red star", 16)])
def test_a_word_that_is_trained_is_no_phrase(concept: str, rank: int) -> None:
    """Few prompts are kept of it: draws by importance take neighbours along. The rank shows it."""
    world, entrance = World(), replace(FAST.entrance, most_unsolved=0.0)
    config = replace(FAST, steps=1, trajectory_steps=1, entrance=entrance)
    state = world.erase(world.plan(concept), config).state
    assert {len(each) for name, each in state.items() if "lora_A" in name} == {rank}
