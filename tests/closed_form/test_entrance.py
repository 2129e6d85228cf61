"""The least squares of an entrance: attacks join its rows, and its solution goes into a LoRA."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Generator, nn

from erase_engine.closed_form.entrance import HEAVIEST, Entrance, LinearOutput
from erase_engine.closed_form.text_rows import Features
from erase_engine.config import EntranceConfig
from erase_engine.interfaces import LinearSlice

WIDTH, OUT = 12, 10
WEIGHT = torch.randn(OUT, WIDTH, generator=Generator().manual_seed(0))
CONFIG = EntranceConfig(attacks=2, attack_share=0.5)


class OneLinear:
    """A model in which text enters through one Linear."""

    device, dtype = torch.device("cpu"), torch.float32

    def entering(self, name: str, text: torch.Tensor) -> torch.Tensor:
        return text


def rows(generator: Generator, held: int) -> Features:
    """Four tokens of prompts, two of them the concept's own; `held` that stay."""
    concept, anchor = (torch.randn(4, WIDTH, generator=generator) for _ in range(2))
    own = torch.tensor([True, True, False, False])
    stay = torch.randn(held, WIDTH, generator=generator)
    return Features(concept, anchor, own, stay)


def entrance(config: EntranceConfig = CONFIG, *, rank: int = 4, held: int = 3) -> Entrance:
    linear = nn.Linear(WIDTH, OUT)
    with torch.no_grad():
        linear.weight.copy_(WEIGHT)
    model: Any = OneLinear()
    output = LinearOutput(model, "text", LinearSlice(linear, 0, OUT, WIDTH))
    features = rows(Generator().manual_seed(1), held)
    return Entrance(output, features, config, ridge=0.01, rank=rank)


@pytest.mark.parametrize(("given", "solves"), [("mps", "cpu"), ("cuda", "cuda"), ("cpu", "cpu")])
def test_a_device_without_float64_solves_on_the_cpu(given: str, solves: str) -> None:
    model: Any = OneLinear()
    model.device = torch.device(given)
    linear = LinearSlice(nn.Linear(WIDTH, OUT), 0, OUT, WIDTH)
    assert LinearOutput(model, "text", linear).device.type == solves


def attacks() -> torch.Tensor:
    """(2, n) of a third of a token's norm."""
    drawn = torch.randn(2, WIDTH, generator=Generator().manual_seed(2))
    return drawn / drawn.norm(dim=1, keepdim=True) / 3


def missed(found: Entrance, change: torch.Tensor) -> float:
    """How far (token + change) is from what the token was to become, in the Linear's output."""
    text, wanted = found.text, found.edit.change[found.own]
    moved = text + text.norm(dim=1, keepdim=True) * change
    return (moved @ found.down.T @ found.up.T - wanted).norm().item()


@pytest.mark.parametrize("which", [0, 1])
def test_each_attack_becomes_what_the_token_becomes(which: int) -> None:
    without, found, change = entrance(), entrance(), attacks()
    without.solve()
    found.solve(change)
    assert missed(found, change[which]) < 0.5 * missed(without, change[which])


def test_attacks_count_as_much_as_they_are_told_to() -> None:
    light, heavy = (entrance(replace(CONFIG, attack_share=share)) for share in (0.01, 1.0))
    for found in (light, heavy):
        found.solve(attacks())
    assert missed(heavy, attacks()[0]) < 0.9 * missed(light, attacks()[0])


def test_the_way_back_leads_towards_what_the_token_was() -> None:
    """In shares of the token's norm; a part of the way, since it is damped."""
    found = entrance()
    found.solve()
    text = found.text
    before = text @ WEIGHT.T
    moved = text + found.undoing() * text.norm(dim=1, keepdim=True)
    off = [(each @ (WEIGHT + found.up @ found.down).T - before).norm() for each in (text, moved)]
    assert off[1] < off[0]


def crowded(most_moved: float) -> tuple[torch.Tensor, torch.Tensor]:
    """How far each of more held rows than the space has dimensions moves, and what it counts."""
    found = entrance(replace(CONFIG, most_moved=most_moved), held=20)
    for _ in range(8):
        found.solve()
    size = (found.held - found.held.mean(0)) @ WEIGHT.T
    moved = found.held @ found.down.T @ found.up.T
    return moved.norm(dim=1) / size.norm(dim=1).mean(), found.weight


def test_no_held_row_moves_further_than_it_may() -> None:
    free, _ = crowded(10)
    moved, weight = crowded(0.3)
    assert free.max() > 0.7 and moved.max() < 0.33
    at_the_limit = weight > 2
    assert at_the_limit.any() and (moved[at_the_limit] > 0.27).all()


def test_rows_that_stay_near_count_one_and_none_counts_without_end() -> None:
    assert (crowded(10)[1] == 1).all()
    moved, weight = crowded(0.01)
    assert (weight == HEAVIEST).all() and moved.max() > 0.01
