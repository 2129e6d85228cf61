"""Rows of pictures, a caption above each: the sheets that the demo leaves to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PAPER, INK = "white", "#222222"
MARGIN, CAPTION_HEIGHT, CAPTION_SIZE = 8, 26, 16


@dataclass(frozen=True)
class Row:
    """One line of a sheet."""

    caption: str
    pictures: Sequence[Path]


def save_sheet(path: Path, rows: Sequence[Row], side: int = 128) -> None:
    """Draws the rows below each other, each picture `side` pixels wide, and writes a PNG."""
    columns = max(len(row.pictures) for row in rows)
    width = MARGIN + columns * (side + MARGIN)
    line = CAPTION_HEIGHT + side + MARGIN
    sheet = Image.new("RGB", (width, line * len(rows) + MARGIN), PAPER)
    for number, row in enumerate(rows):
        draw_row(sheet, row, top=number * line, side=side)
    sheet.save(path)


def draw_row(sheet: Image.Image, row: Row, top: int, side: int) -> None:
    font = ImageFont.load_default(CAPTION_SIZE)
    ImageDraw.Draw(sheet).text((MARGIN, top + MARGIN / 2), row.caption, fill=INK, font=font)
    for number, path in enumerate(row.pictures):
        left = MARGIN + number * (side + MARGIN)
        with Image.open(path) as picture:
            fitted = picture.convert("RGB").resize((side, side), Image.Resampling.LANCZOS)
        sheet.paste(fitted, (left, top + CAPTION_HEIGHT))
