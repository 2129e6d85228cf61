"""Attention maps as one picture: a row for each model and their difference, a column a word."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

CELL = 192  # pixels, side of a map
GAP, MARGIN, LINE = 8, 16, 22  # pixels
LABEL = 90  # pixels, left of the cells
NARROWEST = 560  # pixels, for the line under the maps
PAPER, INK, FRAME = (250, 250, 248), (40, 40, 40), (200, 200, 200)
# Dark blue to yellow, even in lightness, safe for colour-blind eyes (after cividis).
SEQUENTIAL = ((0, 32, 76), (66, 78, 107), (124, 123, 120), (189, 173, 103), (255, 233, 69))
# Blue where attention has gone, white where it stayed, orange where it has come.
DIVERGING = ((25, 90, 160), (150, 190, 220), (247, 247, 247), (245, 190, 130), (200, 90, 10))


Row = tuple[str, list[Image.Image | None]]
Stops = Sequence[tuple[int, int, int]]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


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

    @property
    def brightest(self) -> float:
        """The end of the colour scale that all maps share."""
        return max(max(maps.max().item() for maps in self.maps.values()), 1e-8)


def draw_sheet(sheet: Sheet) -> Tensor:
    """(1, height, width, 3) in 0..1."""
    rows: list[Row] = [
        (name, [*_picture_cell(sheet, name), *(_map_cell(m, sheet.brightest) for m in maps)])
        for name, maps in sheet.maps.items()
    ]
    if len(sheet.maps) == 2:
        before, after = sheet.maps.values()
        blank = [None] if sheet.pictures else []
        changes = [_change_cell(change, sheet.brightest) for change in after - before]
        rows.append(("difference", [*blank, *changes]))
    columns = [*(["picture"] if sheet.pictures else []), *sheet.words]
    image = _lay_out(sheet, columns, rows)
    return torch.from_numpy(numpy.asarray(image).astype(numpy.float32) / 255)[None]


def _lay_out(sheet: Sheet, columns: Sequence[str], rows: Sequence[Row]) -> Image.Image:
    width = max(2 * MARGIN + LABEL + len(columns) * (CELL + GAP), NARROWEST)
    height = 2 * MARGIN + 4 * LINE + len(rows) * (CELL + GAP)
    image = Image.new("RGB", (width, height), PAPER)
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(15)
    prompt = _fitting(sheet.prompt, width - 2 * MARGIN, font)
    draw.text((MARGIN, MARGIN), prompt, INK, font)
    top = MARGIN + LINE
    for index, name in enumerate(columns):
        left = MARGIN + LABEL + index * (CELL + GAP)
        draw.text((left, top), _fitting(name, CELL, font), INK, font)
    top += LINE
    for name, cells in rows:
        draw.text((MARGIN, top + CELL // 2 - 8), name, INK, font)
        for index, cell in enumerate(cells):
            if cell is not None:
                left = MARGIN + LABEL + index * (CELL + GAP)
                draw.rectangle((left - 1, top - 1, left + CELL, top + CELL), outline=FRAME)
                image.paste(cell, (left, top))
        top += CELL + GAP
    most = f"{sheet.brightest:.1%}"
    text = f"0 to {most} of {sheet.unit}, one scale for all maps"
    _draw_scale(image, top + 4, SEQUENTIAL, text)
    if len(sheet.maps) == 2:
        text = f"difference, -{most} (it has gone) to +{most} (it has come)"
        _draw_scale(image, top + 4 + LINE, DIVERGING, text)
    return image


def _draw_scale(image: Image.Image, top: int, stops: Stops, text: str) -> None:
    """A colour bar, and in words what its ends mean."""
    bar = torch.linspace(0, 1, LABEL - GAP).expand(12, LABEL - GAP)
    image.paste(_coloured(bar, stops), (MARGIN, top))
    ImageDraw.Draw(image).text((MARGIN + LABEL, top - 3), text, INK, ImageFont.load_default(15))


def _map_cell(values: Tensor, brightest: float) -> Image.Image:
    return _coloured(_enlarged(values / brightest), SEQUENTIAL)


def _change_cell(change: Tensor, brightest: float) -> Image.Image:
    return _coloured(_enlarged(change / brightest / 2 + 0.5), DIVERGING)


def _picture_cell(sheet: Sheet, name: str) -> list[Image.Image | None]:
    if name not in sheet.pictures:
        return []
    pixels = (sheet.pictures[name][0].clamp(0, 1) * 255).round().byte().cpu().numpy()
    return [Image.fromarray(pixels).resize((CELL, CELL), Image.Resampling.LANCZOS)]


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


def _fitting(text: str, width: int, font: Font) -> str:
    """The text, or as much of it as `width` pixels take."""
    short = text
    while font.getlength(short) > width:
        text = text[:-1]
        short = f"{text}..."
    return short
