"""The bank of teacher paths: what is in it, and what is drawn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from erase_engine.training.trajectories import TeacherOutput, TrajectoryCache, cache_trajectories

TIMES = torch.tensor([1.0, 0.6, 0.3, 0.0])
ROWS = torch.tensor([2, 0, 1, 2])
NOISE = torch.randn(4, 2, 2, 2, generator=torch.Generator().manual_seed(0))


def teacher(x_t: Tensor, t: Tensor, rows: Tensor) -> TeacherOutput:
    """Moves at the number of the prompt's row, answers with the state doubled, watches the time."""
    return TeacherOutput(rows[:, None, None, None].expand_as(x_t), 2 * x_t[:, None], t)


@pytest.fixture
def bank() -> TrajectoryCache:
    return cache_trajectories(teacher, ROWS, noise=NOISE, times=TIMES, at_once=16)


def test_each_path_starts_at_its_noise_and_follows_its_prompt(bank: TrajectoryCache) -> None:
    assert bank.states.shape == (4, 3, 2, 2, 2)
    assert torch.equal(bank.states[:, 0], NOISE)
    for path, row in enumerate(ROWS):
        for step, t in enumerate(TIMES[:-1]):
            torch.testing.assert_close(bank.states[path, step], NOISE[path] + (t - 1) * row)
    assert torch.equal(bank.times, TIMES[:-1]) and torch.equal(bank.rows, ROWS)


def test_the_teachers_answers_lie_beside_its_states(bank: TrajectoryCache) -> None:
    assert torch.equal(bank.answers, 2 * bank.states[:, :, None])
    assert torch.equal(bank.masses, TIMES[:-1].expand(4, 3))


@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_paths_sampled_in_parts_are_the_same(bank: TrajectoryCache, at_once: int) -> None:
    parts = cache_trajectories(teacher, ROWS, noise=NOISE, times=TIMES, at_once=at_once)
    for name in ("states", "answers", "masses", "times", "rows"):
        assert torch.equal(getattr(parts, name), getattr(bank, name))


def test_a_draw_takes_everything_from_one_place(bank: TrajectoryCache) -> None:
    draw = bank.draw(50, torch.Generator().manual_seed(1))
    assert torch.equal(draw.answers, 2 * draw.x_t[:, None]) and torch.equal(draw.mass, draw.t)
    for x_t, t, row in zip(draw.x_t, draw.t, draw.rows, strict=True):
        places = [
            (path, step)
            for path in range(4)
            for step in range(3)
            if torch.equal(bank.states[path, step], x_t)
        ]
        assert any(bank.times[s] == t and bank.rows[p] == row for p, s in places)


def test_every_path_and_time_is_drawn_about_as_often(bank: TrajectoryCache) -> None:
    draw = bank.draw(3000, torch.Generator().manual_seed(2))
    for t in bank.times:
        assert 900 < (draw.t == t).sum() < 1100
    assert 1350 < (draw.rows == 2).sum() < 1650  # two paths of four


def test_early_draws_come_from_the_start_of_each_path(bank: TrajectoryCache) -> None:
    for early, times in ((0.01, 1), (0.5, 2), (1.0, 3)):
        draw = bank.draw(100, torch.Generator().manual_seed(2), early=early)
        assert set(draw.t.tolist()) == set(bank.times[:times].tolist())


def test_one_generator_one_draw(bank: TrajectoryCache) -> None:
    one, same, other = (bank.draw(5, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(one.x_t, same.x_t) and torch.equal(one.rows, same.rows)
    assert not torch.equal(one.x_t, other.x_t)


def test_joined_banks_hold_all_paths(bank: TrajectoryCache) -> None:
    both = TrajectoryCache.join(bank, bank)
    assert torch.equal(both.states, torch.cat([bank.states, bank.states]))
    assert torch.equal(both.answers, torch.cat([bank.answers, bank.answers]))
    assert torch.equal(both.rows, torch.cat([ROWS, ROWS]))


def test_the_teacher_is_asked_in_turn_and_may_cancel() -> None:
    asked: list[int] = []

    def cancels(x_t: Tensor, t: Tensor, rows: Tensor) -> TeacherOutput:
        asked.append(len(x_t))
        if len(asked) == 5:
            raise KeyboardInterrupt
        return teacher(x_t, t, rows)

    rows, noise = ROWS.repeat(5), NOISE.repeat(5, 1, 1, 1)
    with pytest.raises(KeyboardInterrupt):
        cache_trajectories(cancels, rows, noise=noise, times=TIMES, at_once=16)
    assert asked == [16, 16, 16, 4, 4]  # three times of sixteen paths, then of the other four
