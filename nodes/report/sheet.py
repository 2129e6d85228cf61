"""Pictures before and after, one below the other: the sheet of Erasure Report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from ...erase_engine.contact_sheet import Row, contact_sheet, image_of, tensor_of


@dataclass(frozen=True)
class Pair:
    """One prompt drawn by both models from the same noise; pictures (H, W, 3) in 0..1."""

    role: str  # "to erase" or "to keep"
    prompt: str
    before: Tensor
    after: Tensor
    similarity: float | None = None  # cosine of both pictures' embeddings by a vision model

    @property
    def change(self) -> float:
        """Mean difference, as a share of the whole range."""
        return (self.after - self.before).abs().mean().item()


def change_in_words(pairs: Sequence[Pair]) -> str:
    """How far pictures have changed, on average, in words."""
    words = f"{fmean(pair.change for pair in pairs):.1%}"
    similar = [pair.similarity for pair in pairs if pair.similarity is not None]
    return f"{words}, similarity {fmean(similar):.3f}" if similar else words


def draw_report(pairs: Sequence[Pair]) -> Tensor:
    """(1, height, width, 3) in 0..1: a row for each pair, narrow enough to be read on a node."""
    rows = []
    for pair in pairs:
        change = f"{pair.role}: pixels differ by {change_in_words([pair])}".replace(", ", "\n")
        rows.append(
            Row([image_of(pair.before), image_of(pair.after)], (f"{pair.prompt}\n{change}",))
        )
    return tensor_of(contact_sheet(rows, title="Left before, right after"))
