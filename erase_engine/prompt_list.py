"""Prompts out of a CSV, and the folder of pictures that published evaluators of erasures read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unicodedata import category

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from .atomic_file import new_file, remove_abandoned
from .validation import UNREADABLE, shortened

NUMBER, PROMPT, SEED = "case_number", "prompt", "evaluation_seed"  # columns; others are not read
BLANKS = " \t\r\n"  # that may stand in a cell
HIGHEST = 2**64 - 1  # number of a case, and seed
FILES = ("model", "lora")  # settings that a record has as letters without a meaning
RECORD = "eraseanything"  # the field of a picture's file that says how it was drawn


@dataclass(frozen=True)
class Case:
    """A row: a prompt, what its pictures are called by, and the seed of the first."""

    number: int
    prompt: str
    seed: int


@dataclass(frozen=True)
class Picture:
    """A picture to draw, and its file."""

    path: Path
    prompt: str
    seed: int


def read_cases(text: str) -> list[Case]:
    """The rows of a CSV with the columns case_number, prompt and evaluation_seed.

    Without case_number rows count from 0; without evaluation_seed it is the case's number.

    Raises ValueError, naming the row, where one can't be drawn, or would have another's files.
    """
    header, *rows = _rows(text)
    at = {name: header.index(name) for name in (NUMBER, PROMPT, SEED) if name in header}
    if PROMPT not in at:
        raise ValueError(
            f"Got a prompt list that begins with '{shortened(','.join(header))}', expected a CSV "
            f"with the column {PROMPT} in its first line. Write {NUMBER},{PROMPT},{SEED} there."
        )
    if twice := [name for name in at if header.count(name) > 1]:
        raise ValueError(
            f"Got a prompt list with the column {twice[0]} twice, expected it once. Rename or "
            "remove one of them."
        )
    cases = dict[int, Case]()
    for place, row in enumerate(rows):
        case = _case({name: row[column] for name, column in at.items()}, place)
        if case.number in cases:
            raise _refused(place, f"the {NUMBER} {case.number} again", "one of its own")
        cases[case.number] = case
    if not cases:
        raise ValueError(
            "Got a prompt list without rows, expected at least one below the first line. Write a "
            "prompt there."
        )
    return list(cases.values())


def seed_after(first: int, count: int) -> int:
    """The seed so many places on; after the highest comes 0."""
    return (first + count) % (HIGHEST + 1)


def pictures_of(cases: Sequence[Case], folder: Path, count: int) -> list[Picture]:
    """`count` pictures of each case, {case_number}_{k}.png, from its seed + k."""
    return [
        Picture(folder / f"{case.number}_{k}.png", case.prompt, seed_after(case.seed, k))
        for case in cases
        for k in range(count)
    ]


def still_to_draw(pictures: Sequence[Picture], settings: dict[str, Any]) -> list[Picture]:
    """Those without a file; ValueError for a file that was not drawn from the same in every way.

    Settings are all that the pictures depend on beside prompt and seed. Drafts that killed
    processes have left in their folders are taken away.
    """
    for folder in {picture.path.parent for picture in pictures}:
        remove_abandoned(folder)
    missing = []
    for picture in pictures:
        if not picture.path.exists():
            missing.append(picture)
        elif other := _difference(_recorded(picture.path), _record(picture, settings)):
            raise ValueError(
                f"Got {shortened(str(picture.path), 200)}, drawn with {other}, expected pictures "
                "of the same prompts, seeds and settings, or none. Choose another folder, or "
                "empty this one."
            )
    return missing


def save_picture(picture: Picture, image: Image.Image, settings: dict[str, Any]) -> None:
    """Writes the file, whole, with a record of what it was drawn from.

    One that another process has drawn meanwhile stays. OSError where none can be written.
    """
    info = PngInfo()
    info.add_text(RECORD, json.dumps(_record(picture, settings)))
    try:
        with new_file(picture.path) as draft:
            image.save(draft, "PNG", pnginfo=info)
    except OSError as error:
        if isinstance(error, FileExistsError) and picture.path.is_file():
            return
        raise OSError(
            f"Got no way to write {shortened(str(picture.path), 200)} "
            f"({shortened(str(error), 200)}), expected a folder with room. Make some and run this "
            "again: pictures that are there are not drawn again."
        ) from error


def _rows(text: str) -> list[list[str]]:
    """All rows, the header first, each as long as it; ValueError for what is no CSV."""
    try:
        rows = [row for row in csv.reader(io.StringIO(text.lstrip("\ufeff")), strict=True) if row]
    except csv.Error as error:
        raise ValueError(
            f"Got a prompt list that can't be read ({error}), expected a CSV. Put texts with "
            "commas or line breaks in double quotes."
        ) from error
    header = [name.strip() for name in rows[0]] if rows else []
    for place, row in enumerate(rows[1:]):
        if len(row) != len(header) and PROMPT in header:
            do = "Put prompts with commas in double quotes"
            raise _refused(place, f"{len(row)} fields", f"{len(header)}, as in the first line", do)
    return [header, *rows[1:]]


def _case(cells: dict[str, str], place: int) -> Case:
    """The row that stands at `place`, from 0."""
    prompt = cells[PROMPT].strip(BLANKS)
    unseen = any(category(each) in ("Cc", "Cs") and each not in BLANKS for each in prompt)
    if unseen or not any(map(str.isalnum, prompt)):
        got = f"the prompt '{shortened(prompt)}'"
        raise _refused(place, got, "words without control characters", "Write what shall be drawn")
    number = _whole(cells, NUMBER, place, default=place)
    return Case(number, prompt, _whole(cells, SEED, place, default=number))


def _whole(cells: dict[str, str], name: str, place: int, *, default: int) -> int:
    """A cell's whole number; `default` where the list has no such column."""
    text = cells.get(name, str(default)).strip(BLANKS)
    digits = text.isascii() and text.isdigit() and len(text) <= len(str(HIGHEST))
    if not digits or int(text) > HIGHEST:
        raise _refused(place, f"{name} '{shortened(text)}'", f"a whole number from 0 to {HIGHEST}")
    return int(text)


def _refused(place: int, got: str, expected: str, do: str = "Correct the row") -> ValueError:
    return ValueError(
        f"Got {got} in row {place + 1} of the prompt list, expected {expected}. {do}."
    )


def _record(picture: Picture, settings: dict[str, Any]) -> dict[str, Any]:
    made = asdict(picture)
    return {**settings, PROMPT: made["prompt"], "seed": made["seed"]}


def _recorded(path: Path) -> dict[str, Any]:
    """What a picture's file says it was drawn from; nothing where it says nothing."""
    try:
        with Image.open(path) as image:
            found = json.loads(image.info[RECORD])
    except (*UNREADABLE, SyntaxError):
        return {}
    return found if isinstance(found, dict) else {}


def _difference(found: dict[str, Any], wanted: dict[str, Any]) -> str:
    """The first thing in which two records differ, in words; "" where there is none."""
    if not found:
        return "settings that it does not say"
    names = [name for name in wanted if found.get(name) != wanted[name]]
    if not names:
        return ""
    if names[0] in FILES:
        return f"another {names[0]}"
    return f"{names[0]} {shortened(str(found.get(names[0])))!r}"
