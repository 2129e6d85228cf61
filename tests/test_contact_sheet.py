"""Captioned pictures in rows: everything in its place, and nothing over the edge."""

from __future__ import annotations

import torch
from PIL import Image

from erase_engine.contact_sheet import (
    CELL,
    GAP,
    LABEL,
    LINE,
    MARGIN,
    PAPER,
    Row,
    contact_sheet,
    image_of,
    tensor_of,
)

SOFT = 2  # pixels by which the edge of a letter may fade out
RED = Image.new("RGB", (10, 20), (255, 0, 0))


def inked(image: Image.Image, box: tuple[int, int, int, int]) -> bool:
    """Whether anything in a box is not paper."""
    return image.crop(box).getcolors() != [((box[2] - box[0]) * (box[3] - box[1]), PAPER)]


def test_cells_stand_in_rows_and_an_empty_place_is_paper() -> None:
    sheet = contact_sheet([Row([RED, None]), Row([None, RED])], cell=30)
    assert sheet.size == (2 * MARGIN + 2 * (30 + GAP), 2 * MARGIN + 2 * (30 + GAP))
    places = [(MARGIN + x * (30 + GAP), MARGIN + y * (30 + GAP)) for y in (0, 1) for x in (0, 1)]
    found = [sheet.crop((x, y, x + 30, y + 30)).getcolors() for x, y in places]
    assert found == [[(900, colour)] for colour in ((255, 0, 0), PAPER, PAPER, (255, 0, 0))]


def test_a_caption_reaches_as_far_as_the_next_one() -> None:
    wide, step = "W" * 99, CELL + GAP
    alone = contact_sheet([Row([RED, RED, RED], [wide])])
    beside = contact_sheet([Row([RED, RED, RED], [wide, "", "x"])])
    line = (MARGIN + 2 * step - GAP + SOFT, MARGIN, MARGIN + 2 * step - SOFT, MARGIN + LINE - 1)
    assert inked(alone, line) and not inked(beside, line)
    assert inked(beside, (MARGIN + 2 * step, MARGIN, MARGIN + 3 * step, MARGIN + LINE - 1))


def test_captions_of_several_lines_move_the_cells_down() -> None:
    one, two = (contact_sheet([Row([RED], [text])]) for text in ("a", "a\nb"))
    assert two.height - one.height == LINE
    assert one.getpixel((MARGIN, MARGIN + LINE)) == (255, 0, 0)
    assert two.getpixel((MARGIN, MARGIN + 2 * LINE)) == (255, 0, 0)


def test_a_title_and_a_rows_name_stay_inside() -> None:
    sheet = contact_sheet([Row([RED], left="row")], title="W" * 400)
    assert inked(sheet, (MARGIN, MARGIN, sheet.width, MARGIN + LINE))
    assert inked(sheet, (MARGIN, MARGIN + LINE, MARGIN + LABEL - GAP, MARGIN + LINE + CELL))
    assert not inked(sheet, (sheet.width - MARGIN + SOFT, 0, sheet.width, sheet.height))
    assert not inked(sheet, (0, sheet.height - MARGIN, sheet.width, sheet.height))


def test_what_a_key_says_decides_the_width() -> None:
    sheet = contact_sheet([Row([RED])], keys=[(RED, "W" * 60)], cell=30)
    assert inked(sheet, (0, sheet.height - MARGIN - LINE, sheet.width, sheet.height))
    assert not inked(sheet, (sheet.width - MARGIN + SOFT, 0, sheet.width, sheet.height))


def test_pixels_and_pictures_are_one_another() -> None:
    pixels = torch.tensor([[[0.0, 1.0, 0.2], [float("nan"), 2.0, -1.0]]])
    expected = torch.tensor([[[[0, 255, 51], [0, 255, 0]]]]) / 255
    assert torch.equal(tensor_of(image_of(pixels)), expected)
