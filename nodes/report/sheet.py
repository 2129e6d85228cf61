"""Pictures before and after, pair by pair: the sheet of Erasure Report."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from torch import Tensor

from ...erase_engine.contact_sheet import (
    CELL,
    GAP,
    LINE,
    Row,
    contact_sheet,
    image_of,
    tensor_of,
)

WIDE, HIGH = 2 * (CELL + GAP), 2 * LINE + CELL + GAP  # pixels that a pair takes
ROOM = 4 / 3  # of a node for its picture: width to height


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
    """(1, height, width, 3) in 0..1: pairs in rows, a sheet of about the shape of a node's room."""
    beside = max(1, round(math.sqrt(ROOM * len(pairs) * HIGH / WIDE)))
    rows = []
    for role in dict.fromkeys(pair.role for pair in pairs):
        mine = [pair for pair in pairs if pair.role == role]
        for first in range(0, len(mine), beside):
            cells, captions = [], []
            for pair in mine[first : first + beside]:
                change = f"{role}: pixels differ by {change_in_words([pair])}".replace(", ", "\n")
                cells += [image_of(pair.before), image_of(pair.after)]
                captions += [f"{pair.prompt}\n{change}", ""]
            rows.append(Row(cells, captions))
    return tensor_of(contact_sheet(rows, title="Of each pair: left before, right after"))
