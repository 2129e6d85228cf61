"""Importance sampling: paths on which more is left to learn are drawn more often."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

TINY = 1e-12
NEWEST = 0.2  # what the newest draws count in the mean loss
NEWEST_OF_PATH = 0.5  # and the newest draw of a path in what is left there
LEAST, MOST = 0.1, 5.0  # limits of what one draw says is left; 1 is at the mean loss


class Importance:
    """What is left to learn on each of N paths, by which they are drawn.

        p_n = share left_n / sum left + (1 - share) / N,   a draw counts 1 / (N p_n)

    `left` is a running mean of sqrt(loss / mean loss) over a path's draws. The norm of a squared
    error's gradient goes with its root, and a mean of few gradients is surest where they are
    drawn by their norm; what a draw counts makes it the mean over all paths again. Source:
    Katharopoulos and Fleuret (ICML 2018, arXiv 1803.00942).
    """

    def __init__(self, paths: int, *, share: float) -> None:
        self.share = share
        self.left = torch.ones(paths)
        self.mean = torch.zeros(())  # of losses; 0 before the first

    def draw(self, count: int, generator: Generator) -> Draws:
        """`count` paths, each drawn from all."""
        paths = len(self.left)
        chance = self.share * self.left / self.left.sum() + (1 - self.share) / paths
        n = torch.multinomial(chance, count, replacement=True, generator=generator)
        return Draws(self, n, 1 / (paths * chance[n]))

    def learn(self, draws: Draws, losses: Tensor) -> None:
        """Later draws go by the losses (B,) on these."""
        newest = (draws.counts * losses).mean()
        self.mean.lerp_(newest, torch.where(self.mean != 0, NEWEST, 1.0))
        left = (losses / self.mean.clamp_min(TINY)).sqrt().clamp(LEAST, MOST)
        for path, found in zip(draws.paths, left, strict=True):  # one may be drawn twice
            self.left[path] = torch.lerp(self.left[path], found, NEWEST_OF_PATH)

    def tensors(self) -> dict[str, Tensor]:
        """All that draws depend on besides the generator; no copies."""
        return {"left": self.left, "mean": self.mean}


@dataclass(frozen=True)
class Draws:
    """Paths that were drawn, and what each of them counts in a mean."""

    importance: Importance
    paths: Tensor  # (B,)
    counts: Tensor  # (B,)

    def counted(self, losses: Tensor) -> Tensor:
        """(B,) losses, whose mean is that over all paths."""
        return self.counts.to(losses) * losses
