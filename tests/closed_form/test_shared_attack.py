"""Attacks that many prompts share: where they begin, how far they go, and who is attacked."""

from __future__ import annotations

import torch
from torch import Generator

from erase_engine.config import EntranceConfig
from erase_engine.training.solvers.shared_attack import SharedAttack

CPU = torch.device("cpu")
CONFIG = EntranceConfig(attacks=3, radius=0.5, rate=0.4)
FAR = torch.full((1, 8), 1e3)  # what is held and never near


def shared(encoded, config: EntranceConfig = CONFIG) -> SharedAttack:
    return SharedAttack(encoded, config, CPU, held=FAR)


def pulled(attack: SharedAttack, target: torch.Tensor, generator: Generator) -> torch.Tensor:
    """One search of all prompts towards `target`; the loss before it."""
    cond, hit = attack.attack(torch.arange(3), generator, share=1.0)
    assert hit.all()
    loss = (cond.text - target).square().sum()
    attack.descend(loss)
    return loss.detach()


def test_each_begins_some_way_off_at_random(encoded) -> None:
    attack, start = shared(encoded), torch.full((8,), 0.05)
    attack.begin(start, Generator().manual_seed(0))
    way = (attack.change - start).norm(dim=1)
    assert (way > 0).all() and (way < CONFIG.radius).all()
    assert len({tuple(row) for row in attack.change.tolist()}) == 3


def test_a_search_descends_and_ends_at_the_radius(encoded) -> None:
    attack, generator = shared(encoded), Generator().manual_seed(0)
    attack.begin(torch.zeros(8), generator)
    target = torch.full((3, 6, 8), 5.0)
    losses = [pulled(attack, target, generator) for _ in range(12)]
    assert sum(losses[-3:]) < sum(losses[:3])
    torch.testing.assert_close(attack.change.norm(dim=1), torch.full((3,), CONFIG.radius))


def test_tokens_move_by_shares_of_their_norm(encoded) -> None:
    """And no others: a change of length 1 is as long as the token."""
    attack = shared(encoded)
    attack.change[:] = torch.eye(8)[:3] * CONFIG.radius
    cond, _ = attack.attack(torch.tensor([0]), Generator().manual_seed(0), share=1.0)
    clean = encoded.concept.text[0]
    moved = ((cond.text[0] - clean).norm(dim=1) / clean.norm(dim=1)).detach()
    own = encoded.tokens.concept[0]
    expected = torch.zeros(6)
    expected[own[own >= 0]] = CONFIG.radius
    torch.testing.assert_close(moved, expected)


def test_half_of_the_prompts_stay_as_people_write_them(encoded) -> None:
    attack, generator = shared(encoded), Generator().manual_seed(0)
    attack.begin(torch.zeros(8), generator)
    hit = [attack.attack(torch.arange(3), generator)[1].float().mean() for _ in range(200)]
    assert abs(sum(hit) / len(hit) - 0.5) < 0.08


def test_a_gradient_that_overflows_leaves_numbers(encoded) -> None:
    attack, generator = shared(encoded), Generator().manual_seed(0)
    attack.begin(torch.zeros(8), generator)
    pulled(attack, torch.full((3, 6, 8), torch.inf), generator)
    assert attack.change.isfinite().all()
