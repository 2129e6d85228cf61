"""Attention maps as one picture: a row for each model and their difference, a column a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from PIL import Image
from torch import Tensor

from ...erase_engine.contact_sheet import CELL, GAP, LABEL, Row, contact_sheet, image_of, tensor_of

# Dark blue to yellow, even in lightness, safe for colour-blind eyes (after cividis).
SEQUENTIAL = ((0, 32, 76), (66, 78, 107), (124, 123, 120), (189, 173, 103), (255, 233, 69))
# Blue where attention has gone, white where it stayed, orange where it has come.
DIVERGING = ((25, 90, 160), (150, 190, 220), (247, 247, 247), (245, 190, 130), (200, 90, 10))

BAR = 14  # pixels, of a key's height

Stops = Sequence[tuple[int, int, int]]


@dataclass(frozen=True)
class Sheet:
    """What to draw. `maps` (W, h, w) and `pictures` (1, H, W, 3) by model: "before", "after".

    `unit` says what the share that a map shows is a share of.
    """

    prompt: str
    words: Sequence[str]
    maps: dict[str, Tensor]
    pictures: dict[str, Tensor] = field(default_factory=dict)
    unit: str = "a place's attention"


def draw_sheet(sheet: Sheet) -> Tensor:
    """(1, height, width, 3) in 0..1; all maps share one colour scale."""
    most = max(max(maps.max().item() for maps in sheet.maps.values()), 1e-8)
    keys = [_key(SEQUENTIAL, f"0 to {most:.1%} of {sheet.unit}")]
    cells: dict[str, list[Image.Image | None]] = {
        name: [_coloured(_enlarged(each / most), SEQUENTIAL) for each in maps]
        for name, maps in sheet.maps.items()
    }
    if len(sheet.maps) == 2:
        before, after = sheet.maps.values()
        changes = (after - before) / most / 2 + 0.5
        cells["difference"] = [_coloured(_enlarged(each), DIVERGING) for each in changes]
        text = f"-{most:.1%} (gone) to +{most:.1%} (come)"
        keys.append(_key(DIVERGING, text))
    captions = list(sheet.words)
    if sheet.pictures:
        captions = ["picture", *captions]
        shown = {name: image_of(picture[0]) for name, picture in sheet.pictures.items()}
        cells = {name: [shown.get(name), *row] for name, row in cells.items()}
    rows = [
        Row(row, captions if number == 0 else (), left=name)
        for number, (name, row) in enumerate(cells.items())
    ]
    return tensor_of(contact_sheet(rows, title=sheet.prompt, keys=keys))


def _key(stops: Stops, text: str) -> tuple[Image.Image, str]:
    """A colour bar, and in words what its ends mean."""
    return _coloured(torch.linspace(0, 1, LABEL - GAP).expand(BAR, LABEL - GAP), stops), text


def _enlarged(values: Tensor) -> Tensor:
    return torch.nn.functional.interpolate(values[None, None], (CELL, CELL), mode="bicubic")[0, 0]


def _coloured(values: Tensor, stops: Stops) -> Image.Image:
    """Values in 0..1 as colours between the stops."""
    place = values.clamp(0, 1) * (len(stops) - 1)
    below = place.floor().long().clamp(max=len(stops) - 2)
    mix = (place - below)[..., None]
    table = torch.tensor(stops, dtype=torch.float32)
    colour = table[below] * (1 - mix) + table[below + 1] * mix
    return Image.fromarray(colour.round().byte().numpy())
