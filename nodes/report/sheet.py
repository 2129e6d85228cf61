"""Pictures before and after, one below the other: the sheet of Erasure Report."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from textwrap import wrap

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from ..attention.heatmap import CELL, FRAME, GAP, INK, LINE, MARGIN, PAPER

TEXT = 300  # pixels, right of the pictures
LETTERS = 34  # of a prompt in a line
MOST_LINES = 6


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
    """(1, height, width, 3) in 0..1: a row for each pair."""
    width = 2 * MARGIN + 2 * (CELL + GAP) + TEXT
    height = 2 * MARGIN + LINE + len(pairs) * (CELL + GAP)
    image = Image.new("RGB", (width, height), PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    for column, name in enumerate(("before", "after")):
        draw.text((MARGIN + column * (CELL + GAP), MARGIN), name, INK, font)
    for row, pair in enumerate(pairs):
        _draw_pair(image, pair, top=MARGIN + LINE + row * (CELL + GAP))
    return torch.from_numpy(numpy.asarray(image).astype(numpy.float32) / 255)[None]


def _draw_pair(image: Image.Image, pair: Pair, *, top: int) -> None:
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    for column, picture in enumerate((pair.before, pair.after)):
        left = MARGIN + column * (CELL + GAP)
        pixels = (picture.nan_to_num() * 255).round().byte().numpy()
        cell = Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.LANCZOS)
        draw.rectangle((left - 1, top - 1, left + CELL, top + CELL), outline=FRAME)
        image.paste(cell, (left, top))
    lines = [
        f"{pair.role}: changed {change_in_words([pair])}",
        *wrap(pair.prompt, LETTERS)[:MOST_LINES],
    ]
    draw.text((MARGIN + 2 * (CELL + GAP), top), "\n".join(lines), INK, font)
