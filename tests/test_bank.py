"""The bank of teacher paths: what is in it, and what is drawn."""

from __future__ import annotations

import pytest
import torch

from erase_engine.backends.base import Conditioning
from erase_engine.bank import Bank, build_bank

TIMES = torch.tensor([1.0, 0.6, 0.3, 0.0])
ROWS = torch.tensor([2, 0, 1, 2])
COND = Conditioning(torch.arange(3.0)[:, None, None].expand(3, 1, 1), torch.zeros(3, 1))
NOISE = torch.randn(4, 2, 2, 2, generator=torch.Generator().manual_seed(0))


class RowFlow:
    """A model whose velocity is the number of the prompt's row: paths tell whose they are."""

    def velocity(self, x_t, t, cond, *, capture=None):
        return cond.text[:, :, :, None].expand_as(x_t)


@pytest.fixture
def bank() -> Bank:
    return build_bank(RowFlow(), COND, ROWS, noise=NOISE, times=TIMES)  # type: ignore[arg-type]


def test_each_path_starts_at_its_noise_and_follows_its_prompt(bank: Bank) -> None:
    assert bank.states.shape == (4, 3, 2, 2, 2)
    assert torch.equal(bank.states[:, 0], NOISE)
    for path, row in enumerate(ROWS):
        for step, t in enumerate(TIMES[:-1]):
            torch.testing.assert_close(bank.states[path, step], NOISE[path] + (t - 1) * row)
    assert torch.equal(bank.times, TIMES[:-1]) and torch.equal(bank.rows, ROWS)
    assert bank.states.shape[:2] == (4, 3)


def test_many_paths_are_sampled_in_parts_to_the_same_end() -> None:
    rows, noise = ROWS.repeat(10), NOISE.repeat(10, 1, 1, 1)
    many = build_bank(RowFlow(), COND, rows, noise=noise, times=TIMES)  # type: ignore[arg-type]
    few = build_bank(RowFlow(), COND, ROWS, noise=NOISE, times=TIMES)  # type: ignore[arg-type]
    assert torch.equal(many.states, few.states.repeat(10, 1, 1, 1, 1))


def test_a_draw_takes_state_time_and_row_from_one_place(bank: Bank) -> None:
    draw = bank.draw(50, torch.Generator().manual_seed(1))
    for x_t, t, row in zip(draw.x_t, draw.t, draw.rows, strict=True):
        places = [
            (path, step)
            for path in range(4)
            for step in range(3)
            if torch.equal(bank.states[path, step], x_t)
        ]
        assert any(bank.times[s] == t and bank.rows[p] == row for p, s in places)


def test_every_path_and_time_is_drawn_about_as_often(bank: Bank) -> None:
    draw = bank.draw(3000, torch.Generator().manual_seed(2))
    for t in bank.times:
        assert 900 < (draw.t == t).sum() < 1100
    assert 1350 < (draw.rows == 2).sum() < 1650  # two paths of four


def test_one_generator_one_draw(bank: Bank) -> None:
    one, same, other = (bank.draw(5, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(one.x_t, same.x_t) and torch.equal(one.rows, same.rows)
    assert not torch.equal(one.x_t, other.x_t)


def test_joined_banks_hold_all_paths(bank: Bank) -> None:
    both = Bank.join(bank, bank)
    assert torch.equal(both.states, torch.cat([bank.states, bank.states]))
    assert torch.equal(both.rows, torch.cat([ROWS, ROWS]))


def test_every_pass_is_told_and_may_cancel() -> None:
    told: list[int] = []

    def on_forwards(count: int) -> None:
        told.append(count)
        if len(told) == 5:
            raise KeyboardInterrupt

    rows, noise = ROWS.repeat(5), NOISE.repeat(5, 1, 1, 1)
    with pytest.raises(KeyboardInterrupt):
        build_bank(
            RowFlow(),  # type: ignore[arg-type]
            COND,
            rows,
            noise=noise,
            times=TIMES,
            on_forwards=on_forwards,
        )
    assert told == [16, 16, 16, 4, 4]  # three times of sixteen paths, then of the other four
