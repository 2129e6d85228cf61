"""The adversary moves the concept's tokens alone, not far, and to where erasing is harder."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator

from erase_engine.config import EraseConfig, LossWeights
from erase_engine.training.checkpoint import Checkpoint
from erase_engine.training.loop import train_erasure
from erase_engine.training.losses import mean_where
from erase_engine.training.solvers.adversary import Adversary

RADIUS = 0.5
CPU = torch.device("cpu")


def attack(adversary: Adversary, target: torch.Tensor, steps: int, seed: int = 0) -> None:
    """Goes up |text - target|^2."""
    generator = Generator().manual_seed(seed)
    rows = torch.tensor([0, 1, 2])
    for _ in range(steps):
        cond, attacked = adversary.attack(rows, generator)
        if attacked.any():  # else nothing has a gradient
            (cond.text - target).square().sum().backward()
        adversary.learn()


def test_only_concept_tokens_move_and_not_far(encoded) -> None:
    adversary = Adversary(encoded, radius=RADIUS, rate=0.4, device=CPU)
    attack(adversary, torch.zeros(3, 6, 8), steps=40)
    clean = encoded.concept.text
    generator = Generator().manual_seed(1)
    moved = torch.zeros(3, 6)
    for _ in range(10):  # each prompt is attacked in some of them
        text = adversary.attack(torch.arange(3), generator)[0].text.detach()
        moved = torch.maximum(moved, (text - clean).norm(dim=-1) / clean.norm(dim=-1))
    concept = torch.zeros(3, 6, dtype=torch.bool)
    concept[[0, 0, 1, 1, 2], [1, 2, 1, 2, 1]] = True
    assert not moved[~concept].any()
    torch.testing.assert_close(moved[concept], torch.full((5,), RADIUS))


def test_it_goes_up_the_loss(encoded) -> None:
    adversary = Adversary(encoded, radius=RADIUS, rate=0.4, device=CPU)
    target = encoded.concept.text + 1.0
    attack(adversary, target, steps=40)
    away = -(adversary.change * 1.0).sum(dim=-1)  # from the target, which lies at +1 in each
    assert (away[:2] > 0).all() and away[2, 0] > 0 and away[2, 1] == 0


def test_a_gradient_that_overflows_leaves_numbers(encoded) -> None:
    """As one may in float16, where the LoRA's own does not."""
    adversary = Adversary(encoded, radius=RADIUS, rate=0.4, device=CPU)
    attack(adversary, torch.full((3, 6, 8), torch.inf), steps=4)
    assert adversary.change.isfinite().all()


def test_some_prompts_stay_as_they_are(encoded) -> None:
    adversary = Adversary(encoded, radius=RADIUS, rate=0.4, device=CPU)
    adversary.change += 1.0
    generator = Generator().manual_seed(0)
    rows = torch.zeros(200, dtype=torch.long)
    cond, attacked = adversary.attack(rows, generator)
    clean = (cond.text == encoded.concept.text[:1]).all(dim=-1).all(dim=-1)
    assert torch.equal(clean, ~attacked)
    assert 0.35 < clean.float().mean() < 0.65


def train(
    backend: Any,
    encoded: Any,
    attack: float,
    *,
    steps: int = 60,
    attention: float = 0.0,
    checkpoint: Checkpoint | None = None,
) -> Any:
    config = EraseConfig(
        weights=LossWeights(esd=1.0, attention=attention, keep=1.0),
        **{"steps": steps, "batch": 4, "learning_rate": 0.02, "attack": attack},
        **{"trajectories": 4, "trajectory_steps": 4, "width": 32, "height": 32},
    )
    generator = Generator().manual_seed(0)
    return train_erasure(backend, encoded, config, generator=generator, checkpoint=checkpoint)


def test_it_costs_no_pass_and_hardens(small_flow, encoded) -> None:
    """The loss under attack, of an erasure that was attacked, and of one that was not."""
    plain, hard = train(small_flow, encoded, 0.0), train(small_flow, encoded, RADIUS)
    assert plain.forwards == hard.forwards
    assert hard.history["esd"] != plain.history["esd"]
    kept = Checkpoint(None)
    train(small_flow, encoded, RADIUS, steps=2, checkpoint=kept)
    assert kept.latest and kept.latest.solver["attack"].any()  # the steps move it
    absent = torch.full_like(encoded.tokens.concept, -1)
    nothing = replace(encoded, tokens=replace(encoded.tokens, concept=absent))
    idle = train(small_flow, nothing, RADIUS)
    assert all(value.isfinite().all() for value in idle.state.values())


@pytest.mark.parametrize(("share", "expected"), [(0.0, 1.0), (0.5, 1.0), (1.0, 0.0)])
def test_attention_is_read_of_prompts_without_attack(
    small_flow, encoded, monkeypatch, share: float, expected: float
) -> None:
    """Untrained, the ratio is 1 for every prompt but those under attack; none of these counts."""
    monkeypatch.setattr("erase_engine.training.solvers.adversary.SHARE", share)
    found = train(small_flow, encoded, RADIUS, steps=2, attention=1.0).history["attention"]
    assert found[0] == pytest.approx(expected, abs=1e-5)


def test_each_chosen_sample_counts_the_same() -> None:
    values = torch.tensor([0.5, 8.0, 1.0])
    assert mean_where(torch.tensor([True, False, True]), values) == 0.75
    assert mean_where(torch.tensor([False] * 3), values) == 0
