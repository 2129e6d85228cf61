"""Rectified flow: straight paths, and Euler steps that are exact on them."""

from __future__ import annotations

import torch

from erase_engine.flow import add_noise, euler_path, euler_step

X_0, NOISE = torch.randn(2, 3, 2, 2, 4, generator=torch.Generator().manual_seed(0)).unbind(0)
VELOCITY = NOISE - X_0  # d x_t / d t, the same at every t
T = torch.tensor([0.0, 0.25, 1.0])


def test_noise_is_added_sample_by_sample() -> None:
    x_t = add_noise(X_0, NOISE, T)
    torch.testing.assert_close(x_t[0], X_0[0])
    torch.testing.assert_close(x_t[1], 0.75 * X_0[1] + 0.25 * NOISE[1])
    torch.testing.assert_close(x_t[2], NOISE[2])


def test_one_step_is_exact_on_a_straight_path() -> None:
    ends = torch.tensor([0.5, 0.1, 0.0])
    step = euler_step(add_noise(X_0, NOISE, T), VELOCITY, T, ends)
    torch.testing.assert_close(step, add_noise(X_0, NOISE, ends))


def test_a_path_keeps_every_state_to_the_picture() -> None:
    times = torch.tensor([1.0, 0.7, 0.2, 0.0])
    states = euler_path(lambda x, t: VELOCITY, NOISE, times)
    assert states.shape == (3, 4, *NOISE.shape[1:])
    for index, t in enumerate(times):
        torch.testing.assert_close(states[:, index], add_noise(X_0, NOISE, t.expand(3)))


def test_a_path_asks_for_each_time_of_each_sample_without_gradients() -> None:
    asked = []

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        asked.append(t)
        assert not torch.is_grad_enabled()
        return x

    euler_path(velocity, NOISE, torch.tensor([1.0, 0.5, 0.0], dtype=torch.float64))
    assert [t.tolist() for t in asked] == [[1.0] * 3, [0.5] * 3]
    assert asked[0].dtype == NOISE.dtype
