"""What the recipe fast does with a word and with a phrase that it has to train."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from eraseanything_pack.benchmarks.erasure.methods import FAST
from eraseanything_pack.benchmarks.world import World
from eraseanything_pack.erase_engine.training.checkpoint import Checkpoint
from eraseanything_pack.erase_engine.training.loop import Erasure, StepReport
from safetensors.torch import load_file


@pytest.mark.parametrize(("concept", "rank"), [("star", 8), ("red star", 16)])
def test_a_word_that_is_trained_is_no_phrase(concept: str, rank: int) -> None:
    """Few prompts are kept of it: draws by importance take neighbours along. The rank shows it."""
    world, entrance = World(), replace(FAST.entrance, most_unsolved=0.0)
    config = replace(FAST, steps=1, trajectory_steps=1, entrance=entrance)
    state = world.erase(world.plan(concept), config).state
    assert {len(each) for name, each in state.items() if "lora_A" in name} == {rank}


def red_star(world: World, *, attack: float = 0.3, **options: Any) -> Erasure:
    """A short training, whose rate falls after five steps of ten."""
    entrance = replace(FAST.entrance, phrase_settled=1.0, phrase_attack=attack)
    small = {"trajectories": 2, "keep_trajectories": 2, "batch": 2, "keep_per_step": 2}
    config = replace(FAST, steps=8, entrance=entrance, **small)
    return world.erase(world.plan("red star"), config, **options)


def test_a_phrase_is_attacked_once_its_loss_has_come_down(tmp_path: Path) -> None:
    """And goes on, with what attacks it, where it was stopped."""
    world = World()
    attacked, calm = red_star(world), red_star(world, attack=0.0)
    one, other = attacked.history["esd"], calm.history["esd"]
    assert len(one) == len(other) == 10 and attacked.forwards == calm.forwards
    assert one[:6] == other[:6] and one[6:] != other[6:]

    def stop(report: StepReport) -> None:
        if report.losses and report.step == 8:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        red_star(world, checkpoint=Checkpoint(tmp_path), on_step=stop)
    state = load_file(next(tmp_path.rglob("state.safetensors")))
    (attack,) = (each for name, each in state.items() if name.endswith("attack"))
    assert attack.any()  # it began at 0
    resumed = red_star(world, checkpoint=Checkpoint(tmp_path))
    assert resumed.history == attacked.history
    assert all(torch.equal(resumed.state[name], each) for name, each in attacked.state.items())
