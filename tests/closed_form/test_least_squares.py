"""The low-rank least squares: it is the minimum that its formula promises."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from erase_engine.closed_form.least_squares import Edit, low_rank_solution

INPUTS, OUTPUTS, EDITED, HELD = 12, 9, 30, 200
KEEP, RIDGE = 0.7, 0.05


@pytest.fixture
def problem() -> tuple[Edit, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    edit = Edit(normal(EDITED, INPUTS), normal(EDITED, OUTPUTS), normal(EDITED).abs())
    return edit, normal(HELD, INPUTS), normal(HELD).abs() + 0.1


def loss(d: Tensor, edit: Edit, held: Tensor, weight: Tensor) -> Tensor:
    """The formula of `low_rank_solution`, term by term."""
    share = edit.share / edit.share.sum()
    edited = ((edit.x @ d.T - edit.change).square().sum(1) * share).sum()
    kept = ((held @ d.T).square().sum(1) * weight).mean()
    mean_diagonal = (edit.x.square().sum(1) * share).sum() + KEEP * held.square().sum(1).mean()
    return edited + KEEP * kept + RIDGE * mean_diagonal / INPUTS * d.square().sum()


def solved(problem: tuple[Edit, Tensor, Tensor], rank: int) -> Tensor:
    down, up = low_rank_solution(*problem, rank=rank, keep=KEEP, ridge=RIDGE)
    assert down.shape == (rank, INPUTS)
    assert up.shape == (OUTPUTS, rank)
    return (up @ down).double()


def doubled(problem: tuple[Edit, Tensor, Tensor]) -> tuple[Edit, Tensor, Tensor]:
    edit, held, weight = problem
    return Edit(*(each.double() for each in vars(edit).values())), held.double(), weight.double()


def test_at_full_rank_the_slope_is_zero(problem):
    d = solved(problem, OUTPUTS).requires_grad_()
    found = loss(d, *doubled(problem))
    found.backward()
    assert d.grad is not None
    assert d.grad.norm() < 1e-5 * found


def test_no_step_within_the_rank_improves_it(problem):
    exact = doubled(problem)
    down, up = low_rank_solution(*problem, rank=3, keep=KEEP, ridge=RIDGE)
    factors = [down.double().requires_grad_(), up.double().requires_grad_()]
    best = loss(factors[1] @ factors[0], *exact).item()
    optimizer = torch.optim.LBFGS(factors, max_iter=100)

    def closure() -> Tensor:
        optimizer.zero_grad()
        found = loss(factors[1] @ factors[0], *exact)
        found.backward()
        return found

    optimizer.step(closure)
    assert loss(factors[1] @ factors[0], *exact).item() == pytest.approx(best, rel=1e-6)


def test_the_rank_is_cut_where_it_costs_least(problem):
    """Another cut of the full solution, by its own singular values, is never better."""
    exact = doubled(problem)
    u, s, v = torch.linalg.svd(solved(problem, OUTPUTS))
    plain = u[:, :2] * s[:2] @ v[:2]
    assert loss(solved(problem, 2), *exact) < loss(plain, *exact)


def test_what_counts_more_moves_less(problem):
    edit, held, weight = problem
    heavy = weight.clone()
    heavy[0] = 1000.0
    light = low_rank_solution(edit, held, weight, rank=8, keep=KEEP, ridge=RIDGE)
    weighed = low_rank_solution(edit, held, heavy, rank=8, keep=KEEP, ridge=RIDGE)
    moved = [(held[0] @ down.T @ up.T).norm() for down, up in (light, weighed)]
    assert moved[1] < 0.2 * moved[0]


def test_the_same_rows_give_the_same_bits_and_no_random_number_is_used(problem):
    before = torch.get_rng_state()
    one, other = (low_rank_solution(*problem, rank=4, keep=KEEP, ridge=RIDGE) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert torch.equal(torch.get_rng_state(), before)
