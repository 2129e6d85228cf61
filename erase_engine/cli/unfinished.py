"""`--unfinished`: what stopped trainings have left on the disk, and how to be rid of it."""

from __future__ import annotations

from pathlib import Path

from ..training.unfinished import clear, unfinished_in
from .options import Parser, named

UNFINISHED = "--unfinished"


def show_unfinished(arguments: list[str]) -> str:
    """A line for each unfinished training; with `--clear` they are removed."""
    made = Parser(prog="python -m erase_engine", allow_abbrev=False)
    made.add_argument(
        UNFINISHED,
        nargs="?",
        const=".",
        type=named,
        metavar="FOLDER",
        help="lists what stopped trainings have left in or below this folder",
    )
    made.add_argument("--clear", action="store_true", help="removes it")
    options = made.parse_args(arguments)
    found = unfinished_in(Path(options.unfinished))
    if not options.clear:
        lines = [one.describe() for one in found]
        return "\n".join([*lines, f"{len(found)} unfinished. Add --clear to remove them."])
    removed = clear(found)
    return "\n".join([*(f"Removed {one.folder}" for one in removed), f"{len(removed)} removed."])
