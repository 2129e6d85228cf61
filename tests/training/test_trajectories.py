"""Cached teacher trajectories: what is in them, and what is drawn."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from erase_engine.config import EraseConfig
from erase_engine.training.importance import Importance
from erase_engine.training.teacher import CountedModel, ForwardCount, cache_all_trajectories
from erase_engine.training.trajectories import TeacherOutput, TrajectoryCache, cache_trajectories

TIMES = torch.tensor([1.0, 0.6, 0.3, 0.0])
ROWS = torch.tensor([2, 0, 1, 2])
NOISE = torch.randn(4, 2, 2, 2, generator=torch.Generator().manual_seed(0))


def teacher(x_t: Tensor, t: Tensor, rows: Tensor) -> TeacherOutput:
    """Under its own prompt the row's number, under another the state doubled; mass is the time."""
    velocities = rows[:, None, None, None].expand_as(x_t), 2 * x_t
    return TeacherOutput(torch.stack(velocities, dim=1), t[:, None], velocities[0])


@pytest.fixture
def cache() -> TrajectoryCache:
    return cache_trajectories(teacher, ROWS, noise=NOISE, times=TIMES, at_once=16)


def test_each_path_starts_at_its_noise_and_follows_its_prompt(cache: TrajectoryCache) -> None:
    assert cache.states.shape == (4, 3, 2, 2, 2)
    assert torch.equal(cache.states[:, 0], NOISE)
    for path, row in enumerate(ROWS):
        for step, t in enumerate(TIMES[:-1]):
            torch.testing.assert_close(cache.states[path, step], NOISE[path] + (t - 1) * row)
    assert torch.equal(cache.times, TIMES[:-1]) and torch.equal(cache.rows, ROWS)


def test_the_teachers_velocities_lie_beside_its_states(cache: TrajectoryCache) -> None:
    assert torch.equal(cache.teacher_velocity[:, :, 1], 2 * cache.states)
    assert torch.equal(cache.mass[:, :, 0], TIMES[:-1].expand(4, 3))


@pytest.mark.parametrize("at_once", [1, 3, 16])
def test_paths_sampled_in_parts_are_the_same(cache: TrajectoryCache, at_once: int) -> None:
    parts = cache_trajectories(teacher, ROWS, noise=NOISE, times=TIMES, at_once=at_once)
    for name in ("states", "teacher_velocity", "mass", "times", "rows"):
        assert torch.equal(getattr(parts, name), getattr(cache, name))


def test_a_draw_takes_everything_from_one_place(cache: TrajectoryCache) -> None:
    draw = cache.draw(50, torch.Generator().manual_seed(1))
    assert torch.equal(draw.teacher_velocity[:, 1], 2 * draw.x_t)
    assert torch.equal(draw.mass[:, 0], draw.t)
    for x_t, t, row in zip(draw.x_t, draw.t, draw.rows, strict=True):
        places = [
            (path, step)
            for path in range(4)
            for step in range(3)
            if torch.equal(cache.states[path, step], x_t)
        ]
        assert any(cache.times[s] == t and cache.rows[p] == row for p, s in places)


def test_every_path_and_time_is_drawn_about_as_often(cache: TrajectoryCache) -> None:
    draw = cache.draw(3000, torch.Generator().manual_seed(2))
    for t in cache.times:
        assert 900 < (draw.t == t).sum() < 1100
    assert 1350 < (draw.rows == 2).sum() < 1650  # two paths of four


def test_early_draws_come_from_the_start_of_each_path(cache: TrajectoryCache) -> None:
    for early, times in ((0.01, 1), (0.5, 2), (1.0, 3)):
        draw = cache.draw(100, torch.Generator().manual_seed(2), early=early)
        assert set(draw.t.tolist()) == set(cache.times[:times].tolist())


def test_one_generator_one_draw(cache: TrajectoryCache) -> None:
    one, same, other = (cache.draw(5, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4))
    assert torch.equal(one.x_t, same.x_t) and torch.equal(one.rows, same.rows)
    assert not torch.equal(one.x_t, other.x_t)


def test_joined_caches_hold_all_paths(cache: TrajectoryCache) -> None:
    both = TrajectoryCache.join(cache, cache)
    assert torch.equal(both.states, torch.cat([cache.states, cache.states]))
    assert torch.equal(both.teacher_velocity, torch.cat([cache.teacher_velocity] * 2))
    assert torch.equal(both.rows, torch.cat([ROWS, ROWS]))


def test_passes_come_in_turn_and_one_may_cancel() -> None:
    asked: list[int] = []

    def counted(x_t: Tensor, t: Tensor, rows: Tensor) -> TeacherOutput:
        asked.append(len(x_t))
        return teacher(x_t, t, rows)

    def cancel() -> None:
        if len(asked) == 5:
            raise KeyboardInterrupt

    rows, noise = ROWS.repeat(5), NOISE.repeat(5, 1, 1, 1)
    with pytest.raises(KeyboardInterrupt):
        cache_trajectories(counted, rows, noise=noise, times=TIMES, at_once=16, on_pass=cancel)
    assert asked == [16, 16, 16, 4, 4]  # three times of sixteen paths, then of the other four


@pytest.mark.parametrize(("trajectories", "different"), [(1, 2), (2, 3)])
def test_no_prompt_is_sampled_twice_while_there_are_others(
    small_flow, encoded, trajectories: int, different: int
) -> None:
    """There are three; concept and anchor have paths of different prompts, from their own noise."""
    config = EraseConfig(batch=4, trajectories=trajectories, width=32, height=32)
    model = CountedModel(small_flow, encoded, config, ForwardCount(0))
    generator = torch.Generator().manual_seed(0)
    erase = cache_all_trajectories(model, generator=generator, on_pass=lambda: None).erase
    assert len(erase.rows) == 2 * trajectories and len(erase.rows.unique()) == different
    assert len(erase.states[:, 0].unique(dim=0)) == 2 * trajectories


def test_each_prompts_paths_follow_its_own_velocity(small_flow, encoded) -> None:
    """The concept's first, then the anchor's; both kinds know both velocities."""
    config = EraseConfig(batch=4, trajectories=4, trajectory_steps=3, width=32, height=32)
    model = CountedModel(small_flow, encoded, config, ForwardCount(0))
    generator = torch.Generator().manual_seed(0)
    erase = cache_all_trajectories(model, generator=generator, on_pass=lambda: None).erase
    moved = erase.states[:, 1:] - erase.states[:, :-1]
    step = (erase.times[1:] - erase.times[:-1])[:, None, None, None]
    for paths, prompt in ((slice(0, 4), 0), (slice(4, 8), 1)):
        own, other = (erase.teacher_velocity[paths, :-1, each] for each in (prompt, 1 - prompt))
        torch.testing.assert_close(moved[paths], step * own)
        assert not torch.allclose(moved[paths], step * other, rtol=0.01)


def test_a_path_is_drawn_as_often_as_much_is_left_on_it(cache: TrajectoryCache) -> None:
    """Of four paths one has a loss nine times as large, so three times the root: 3 of 6 draws."""
    importance = Importance(4, share=1.0)
    generator = torch.Generator().manual_seed(0)
    for _ in range(300):
        batch = cache.draw(4, generator, importance=importance)
        assert batch.draws is not None
        losses = torch.where(batch.draws.paths == 0, 9.0, 1.0)
        mean = batch.mean_of(lambda v, losses=losses: losses * v, torch.ones(4))
        torch.testing.assert_close(mean, (batch.draws.counts * losses).mean())
    late = importance.draw(3000, generator)
    assert 1350 < (late.paths == 0).sum() < 1650
    other = Importance(4, share=0.5)
    other.left.copy_(importance.left)
    assert 1000 < (other.draw(3000, generator).paths == 0).sum() < 1250  # (1/2 + 1/4) / 2


@pytest.mark.parametrize("share", [0.3, 0.7])
def test_what_a_draw_counts_makes_the_mean_that_over_all_paths(share: float) -> None:
    importance = Importance(4, share=share)
    importance.left.copy_(torch.tensor([3.0, 1.0, 0.1, 0.5]))
    losses = torch.tensor([8.0, 2.0, 1.0, 1.0])
    draws = importance.draw(40_000, torch.Generator().manual_seed(0))
    before = importance.left.clone()
    assert draws.counted(losses[draws.paths]).mean().item() == pytest.approx(3, rel=0.03)
    assert torch.equal(importance.left, before)  # it was not asked to learn


def test_what_is_left_is_of_the_mean_loss_whatever_its_size() -> None:
    """All losses fall in a training: what counts is how one stands among them."""
    found = []
    for scale in (1.0, 1e-6):
        importance, generator = Importance(3, share=0.7), torch.Generator().manual_seed(0)
        for _ in range(20):
            draws = importance.draw(6, generator)
            importance.learn(draws, scale * torch.tensor([1.0, 2.0, 30.0])[draws.paths])
        found.append(importance.left.clone())
    torch.testing.assert_close(*found)
    assert found[0].argmax() == 2


def test_a_loss_of_0_leaves_every_path_a_chance() -> None:
    importance, generator = Importance(2, share=1.0), torch.Generator().manual_seed(0)
    for _ in range(20):
        importance.learn(importance.draw(8, generator), torch.zeros(8))
    assert importance.left.isfinite().all() and (importance.left >= 0.1).all()
