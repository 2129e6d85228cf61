"""A concept's pictures before and after, as one small file to look at."""

from __future__ import annotations

from pathlib import Path

import torch
from eraseanything_pack.erase_engine.contact_sheet import Row, contact_sheet, image_of
from PIL import Image
from torch import Tensor

from .case import Case, Pictures

COLUMNS, CELL, COLOURS = 8, 64, 64  # pictures in a row; pixels; of the file's palette


def save_sheet(folder: Path, case: Case, pictures: Pictures, worst_word: str) -> Path:
    """Rows of the same noise: base, base asked for the replacement, erased; then the worst word.

    A fifth of the pictures has one thing where the concept can stand alone.
    """
    named = [*torch.linspace(0, len(pictures["named"]) - 1, COLUMNS).round().int().tolist()]
    word = f"word {worst_word}"
    rows = [
        row_of(f"prompts with {case.concept}: base model", case.draw("named", None)[named]),
        row_of(f"base model, asked for {case.plan.anchor!r}", case.draw("anchors", None)[named]),
        row_of(f"{case.concept} erased", pictures["named"][named]),
        row_of(f"the worst other word, {worst_word}: base model", case.draw(word, None)[:COLUMNS]),
        row_of(f"{worst_word}, {case.concept} erased", pictures[word][:COLUMNS]),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{case.concept.replace(' ', '_')}.png"
    sheet = contact_sheet(rows, cell=CELL)
    sheet.quantize(COLOURS, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)
    return path


def row_of(heading: str, pictures: Tensor) -> Row:
    """Pictures (N, 3, H, W) in 0..1 beside each other, below a heading."""
    return Row([image_of(picture.permute(1, 2, 0)) for picture in pictures], [heading])
