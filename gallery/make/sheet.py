"""Draws what the gallery shows, as one picture: `python scripts/make_weights.py gallery.sheet`.

The picture's metadata says what its cells are: the judge is tested on it.
"""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from ..vocabulary import (
    ARTISTS,
    BACKGROUNDS,
    CARRIERS,
    COLOURS,
    MARKS,
    MOUTHS,
    PEOPLE,
    SHIRTS,
    STILL_LIFE,
    STILL_LIFE_ARTIST,
    SUBJECTS,
    Scene,
)
from .pictures import SIZE, render_all

COLUMNS = 12
PATH = Path(__file__).parents[1] / "sheet.png"


def shown() -> list[Scene]:
    """Three rows of subjects, a row and a half of persons, of marks, and of pairs."""
    scenes = []
    for place, subject in enumerate([*SUBJECTS][: 3 * COLUMNS]):
        artist = ARTISTS[(place + place // COLUMNS) % len(ARTISTS)]
        scenes.append(Scene("object", _turn(BACKGROUNDS, place), subject=subject, artist=artist))
    for place, person in enumerate(PEOPLE):
        mouth, shirt = _turn([*MOUTHS], place), _turn(SHIRTS, place + 1)
        ground = _turn(BACKGROUNDS, place)
        scenes.append(Scene("portrait", ground, person=person, mouth=mouth, shirt=shirt))
    for place, mark in enumerate(MARKS):
        carrier, colour = _turn([*CARRIERS], place), _turn(COLOURS, place)
        ground = _turn(BACKGROUNDS, place + 1)
        scenes.append(Scene("carrier", ground, carrier=carrier, mark=mark, colour=colour))
    for place, first in enumerate(STILL_LIFE):
        second, kind = _turn(STILL_LIFE, place + 3), ("over", "beside")[place % 2]
        pair = {"subject": first, "second": second, "artist": STILL_LIFE_ARTIST}
        scenes.append(Scene(kind, _turn(BACKGROUNDS, place), **pair))
    return scenes


def _turn(words: Sequence[str], place: int) -> str:
    return words[place % len(words)]


def main(arguments: Sequence[str]) -> None:
    from PIL import Image
    from PIL.PngImagePlugin import PngInfo

    ArgumentParser(description=__doc__).parse_args(arguments)
    scenes = shown()
    cells = render_all(scenes, 1).unflatten(0, (-1, COLUMNS))  # (rows, columns, 3, 128, 128)
    rows, columns = cells.shape[:2]
    pixels = cells.permute(0, 3, 1, 4, 2).reshape(rows * SIZE, columns * SIZE, 3)
    told = PngInfo()
    told.add_text("scenes", json.dumps([asdict(scene) for scene in scenes]))
    Image.fromarray(pixels.numpy()).save(PATH, pnginfo=told, optimize=True)
    print(PATH)
