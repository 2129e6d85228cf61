"""A low-rank change of one Linear, solved: some inputs get other outputs, others keep theirs."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SPARE, ITERATIONS = 8, 8  # of the randomized SVD: columns beyond the rank, power iterations


@dataclass(frozen=True)
class Edit:
    """Inputs whose output is to change."""

    x: Tensor  # (N, n)
    change: Tensor  # (N, m) what is to be added to the Linear's output there
    share: Tensor  # (N,) how much each row counts; only their proportions matter

    def beside(self, other: Edit) -> Edit:
        """The rows of both."""
        return Edit(
            torch.cat([self.x, other.x]),
            torch.cat([self.change, other.change]),
            torch.cat([self.share, other.share]),
        )


def low_rank_solution(
    edit: Edit, held: Tensor, weight: Tensor, *, rank: int, keep: float, ridge: float
) -> tuple[Tensor, Tensor]:
    """A (r, n) and B (m, r), float32, whose product D = B A is the best of its rank in

        min_D  sum_i s_i |D x_i - change_i|^2  +  keep mean_k w_k |D k|^2  +  ridge |D|^2

    with shares s that add up to 1. With G = sum_i s_i x_i x_i^T + keep mean_k w_k k k^T + ridge I
    and C = sum_i s_i change_i x_i^T the unrestricted answer is C G^-1; it is cut to its rank in the
    metric of G, in which G = L L^T makes it C L^-T. It is the least squares of UCE (arXiv
    2308.14761) and MACE (arXiv 2403.06135), with a rank.

    Args:
        held: (M, n) inputs whose output is to stay.
        weight: (M,) how much each of them counts.
        ridge: in shares of the mean diagonal of G, its rows weighted alike.
    """
    x, change, held = edit.x.double(), edit.change.double(), held.double()
    share = (edit.share / edit.share.sum()).double()[:, None]
    gram = (x * share).T @ x + keep * (held * weight.double()[:, None]).T @ held / len(held)
    size = (x.square() * share).sum() + keep * held.square().sum() / len(held)
    gram.diagonal().add_(ridge * size / len(gram))
    root = torch.linalg.cholesky(gram)
    whitened = torch.linalg.solve_triangular(root, x.T @ (change * share), upper=False)  # (n, m)
    right, values, left = _largest(whitened, rank)
    half = values.sqrt()
    down = torch.linalg.solve_triangular(root.T, right * half, upper=True).T
    return down.float(), (left * half).float()


def _largest(matrix: Tensor, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The largest singular values and their vectors, found alike each time."""
    columns = min(rank + SPARE, *matrix.shape)
    with torch.random.fork_rng(devices=[matrix.device] if matrix.is_cuda else []):
        torch.manual_seed(0)
        u, s, v = torch.svd_lowrank(matrix, q=columns, niter=ITERATIONS)
    return u[:, :rank], s[:rank], v[:, :rank]
