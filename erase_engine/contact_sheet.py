"""Captioned pictures in rows, as one picture: every sheet that this project draws."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL, LABEL = 192, 124  # pixels: a cell's side; what stands left of a row
MARGIN, GAP, LINE = 16, 8, 30  # pixels
PAPER, INK, FRAME = (250, 250, 248), (40, 40, 40), (200, 200, 200)
FONT = ImageFont.load_default(21)  # nodes show a sheet at half its size


@dataclass(frozen=True)
class Row:
    """Cells beside each other; None is an empty place.

    `captions` stand above the cells, in as many lines as they have, each as wide as the cells up
    to the next caption. `left` names the row.
    """

    cells: Sequence[Image.Image | None]
    captions: Sequence[str] = ()
    left: str = ""

    @property
    def head(self) -> int:
        """Pixels that the captions take."""
        return LINE * max((caption.count("\n") + 1 for caption in self.captions), default=0)


def contact_sheet(
    rows: Sequence[Row],
    *,
    title: str = "",
    keys: Sequence[tuple[Image.Image, str]] = (),
    cell: int = CELL,
) -> Image.Image:
    """The rows below a title, each picture `cell` pixels wide and high.

    `keys` stand under the rows: small pictures, each with what it means.
    """
    left = MARGIN + (LABEL if any(row.left for row in rows) else 0)
    right = left + max(len(row.cells) for row in rows) * (cell + GAP)
    texts = [MARGIN + LABEL + math.ceil(FONT.getlength(text)) for _, text in keys]
    width = max(right, *texts, 0) + MARGIN
    lines = LINE * (bool(title) + len(keys))
    height = 2 * MARGIN + lines + sum(row.head + cell + GAP for row in rows)
    sheet = Image.new("RGB", (width, height), PAPER)
    draw, top = ImageDraw.Draw(sheet), MARGIN
    if title:
        draw.text((MARGIN, top), _fitting(title, width - 2 * MARGIN), INK, FONT)
        top += LINE
    for row in rows:
        _draw_captions(draw, row, left, top, cell)
        top += row.head
        draw.text((MARGIN, top + cell // 2 - LINE // 3), row.left, INK, FONT)
        for number, picture in enumerate(row.cells):
            if picture is not None:
                at = left + number * (cell + GAP)
                draw.rectangle((at - 1, top - 1, at + cell, top + cell), outline=FRAME)
                small = picture.resize((cell, cell), Image.Resampling.LANCZOS)
                sheet.paste(small, (at, top))
        top += cell + GAP
    for symbol, text in keys:
        sheet.paste(symbol, (MARGIN, top + LINE // 4))
        draw.text((MARGIN + LABEL, top + 1), text, INK, FONT)
        top += LINE
    return sheet


def image_of(pixels: Tensor) -> Image.Image:
    """(H, W, 3) in 0..1 as a picture; what is no number is black."""
    levels = (pixels.nan_to_num().clamp(0, 1) * 255).round().byte()
    return Image.fromarray(levels.cpu().numpy())


def tensor_of(image: Image.Image) -> Tensor:
    """A picture as (1, H, W, 3) in 0..1."""
    return torch.from_numpy(numpy.asarray(image).astype(numpy.float32) / 255)[None]


def _draw_captions(draw: ImageDraw.ImageDraw, row: Row, left: int, top: int, cell: int) -> None:
    named = [number for number, caption in enumerate(row.captions) if caption]
    for number, after in zip(named, [*named[1:], len(row.cells)], strict=False):
        room = (after - number) * (cell + GAP) - GAP
        lines = [_fitting(line, room) for line in row.captions[number].splitlines()]
        draw.text((left + number * (cell + GAP), top), "\n".join(lines), INK, FONT)


def _fitting(text: str, width: int) -> str:
    """The text, or as much of it as `width` pixels take."""
    short = text
    while FONT.getlength(short) > width:
        text = text[:-1]
        short = f"{text}..."
    return short
