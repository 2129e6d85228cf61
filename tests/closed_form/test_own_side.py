"""Changes of a concept's tokens end where another word begins."""

from __future__ import annotations

import torch

from erase_engine.closed_form.own_side import length_of, on_own_side, within

WIDTH = 6


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_a_longer_change_is_shortened_and_a_shorter_one_stays():
    change = torch.tensor([[3.0, 4.0], [0.3, 0.4], [0.0, 0.0]])
    found = within(change, 1.0)
    assert torch.allclose(found, torch.tensor([[0.6, 0.8], [0.3, 0.4], [0.0, 0.0]]))
    assert (length_of(torch.zeros(2, 3)) > 0).all()


def test_a_change_on_its_own_side_stays_bit_for_bit():
    tokens, far = normal(4, WIDTH), 100 + normal(5, WIDTH, seed=1)
    change = normal(4, WIDTH, seed=2)
    assert torch.equal(on_own_side(change, tokens, far), change)


def test_past_half_of_the_way_it_is_led_back_and_keeps_all_else():
    token = torch.zeros(1, 3)
    held = torch.tensor([[2.0, 0.0, 0.0]])
    found = on_own_side(torch.tensor([[1.5, 0.3, -0.2]]), token, held)
    assert torch.allclose(found, torch.tensor([[1.0, 0.3, -0.2]]))


def test_no_other_word_is_nearer_than_the_concept():
    tokens, held = normal(20, WIDTH), normal(15, WIDTH, seed=1)
    change = 1.5 * normal(20, WIDTH, seed=2)

    def lead(change: torch.Tensor) -> torch.Tensor:
        """How much nearer the concept is than what is held."""
        return torch.cdist(tokens + change, held).amin(1) - change.norm(dim=1)

    assert (lead(change) < -0.1).sum() > 10
    assert (lead(on_own_side(change, tokens, held)) > -0.1).all()


def test_a_word_that_is_held_itself_sets_no_limit():
    tokens, change = normal(1, WIDTH), normal(1, WIDTH, seed=1)
    assert torch.allclose(on_own_side(change, tokens, tokens), change)
