"""Puts the pictures of the last `make demo` where the README and the template browser show them.

With `--thumbnails` it runs the other example workflows, and shows beside each what it saved; of one
that wants files of a person's own, its title and what it wants. Names after it: only those. With
`--first`, after `make demo MODEL=gallery CONCEPT=cat`: the README's first picture.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from comfy_server import PACK, Server, comfy_server
from PIL import Image, ImageDraw, ImageFont, ImageOps
from PIL.PngImagePlugin import PngInfo
from setup import comfyui_path
from workflow_api import to_api

from erase_engine.contact_sheet import CELL, GAP, LABEL, LINE, MARGIN

DEMO, DOCS, EXAMPLES = PACK / "output" / "demo", PACK / "docs", PACK / "example_workflows"
SHOWN = ("before_after.png", "attention.png")
FIRST = "first.jpg"
OF_DEMO = "erase_object"  # the workflow that the demo runs
REPORT, MAPS = "EraseAnythingReport", "EraseAnythingAttention"  # nodes that save sheets
WANTS = "UNETLoader"  # a node of workflows for a model of one's own
WIDTH, HEIGHT, COLUMNS = 480, 320, 3  # of a thumbnail, in pixels; pictures in a row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--thumbnails", nargs="*", help="of the other workflows", metavar="NAME")
    parser.add_argument("--first", action="store_true", help="the README's first picture alone")
    options = parser.parse_args()
    if options.first:
        with Image.open(DEMO / SHOWN[0]) as picture:
            picture.convert("RGB").save(DOCS / FIRST, quality=92, optimize=True)
        return
    names = options.thumbnails
    if names is not None:
        make_thumbnails([EXAMPLES / f"{name}.json" for name in names] or EXAMPLES.glob("*.json"))
        return
    for name in SHOWN:
        save_with_workflow(DEMO / name, EXAMPLES / f"{OF_DEMO}.json")
    drawn = [sorted(DEMO.rglob(f"erase_{model}_*_00001_.png")) for model in ("base", "erased")]
    save_thumbnail(OF_DEMO, [Image.open(path) for paths in drawn for path in paths[:COLUMNS]])


def save_with_workflow(file: Path, workflow: Path) -> None:
    """In docs; dropped into ComfyUI, the picture opens the workflow."""
    chunks = PngInfo()
    chunks.add_text("workflow", json.dumps(json.loads(workflow.read_text(encoding="utf-8"))))
    with Image.open(file) as picture:
        picture.save(DOCS / file.name, pnginfo=chunks, optimize=True)
    print(f"wrote docs/{file.name}")


def make_thumbnails(files: Iterable[Path]) -> None:
    """Of each workflow but the demo's, beside it."""
    with (
        tempfile.TemporaryDirectory() as base,
        comfy_server(comfyui_path(), Path(base)) as server,
    ):
        for file in sorted(files):
            workflow = json.loads(file.read_text(encoding="utf-8"))
            if any(node["type"] == WANTS for node in workflow["nodes"]):
                save_card(file.stem, workflow)
            elif file.stem != OF_DEMO:
                save_thumbnail(file.stem, pictures_of(server, workflow))


def pictures_of(server: Server, workflow: dict[str, Any]) -> list[Image.Image]:
    """What a workflow saves, run as it lies in the repository; six of a sheet's pictures."""
    prompt = to_api(workflow, server.object_info())
    shown = server.run(prompt)
    saved = [each for each, node in prompt.items() if node["class_type"] == "SaveImage"]
    files = [server.files(shown[each]) for each in saved]
    # Of nodes that save several pictures each, the first of every one, then the second.
    pictures: list[Image.Image] = [
        Image.open(path) for row in zip(*files, strict=True) for path in row
    ]
    kinds = {node["class_type"] for node in prompt.values()}
    if REPORT in kinds:
        return of_report(pictures[0])
    return of_maps(pictures[-1]) if MAPS in kinds else pictures


def of_report(sheet: Image.Image) -> list[Image.Image]:
    """Of its pairs the first two, which are to erase, and one to keep: before, then after."""
    high = 2 * LINE + CELL + GAP  # a pair with its captions
    rows = (sheet.height - 2 * MARGIN - LINE) // high
    some = ((0, 0), (0, 2), (rows // 2, 0))
    return [
        cut(sheet, row, column + after, MARGIN, MARGIN + 3 * LINE, high)
        for after in (0, 1)
        for row, column in some
    ]


def of_maps(sheet: Image.Image) -> list[Image.Image]:
    """The picture and the maps of two words: before, then after."""
    corner = MARGIN + LABEL, MARGIN + 2 * LINE
    high = CELL + GAP
    return [cut(sheet, row, column, *corner, high) for row in (0, 1) for column in range(COLUMNS)]


def cut(sheet: Image.Image, row: int, column: int, left: int, top: int, high: int) -> Image.Image:
    """One cell of a sheet whose first one begins there, and whose rows are so high."""
    x, y = left + column * (CELL + GAP), top + row * high
    return sheet.crop((x, y, x + CELL, y + CELL))


def save_thumbnail(name: str, pictures: Sequence[Image.Image]) -> None:
    """The pictures in a grid, each as large as fits its place, beside the workflow."""
    columns = min(len(pictures), COLUMNS)
    cell = WIDTH // columns, HEIGHT // -(-len(pictures) // columns)
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    for at, picture in enumerate(pictures):
        shown = ImageOps.pad(picture.convert("RGB"), cell, color="white")
        sheet.paste(shown, (at % columns * cell[0], at // columns * cell[1]))
    save(name, sheet)


def save_card(name: str, workflow: dict[str, Any]) -> None:
    """The title of a workflow's note, and that it is for files of one's own."""
    note = next(node for node in workflow["nodes"] if node["type"] == "MarkdownNote")
    title = note["widgets_values"][0].splitlines()[0].removeprefix("# ")
    card = Image.new("RGB", (WIDTH, HEIGHT), "white")
    pen = ImageDraw.Draw(card)
    for text, size, y in ((title, 40, 0.42), ("for a model of your own: FLUX.1, ...", 20, 0.62)):
        font = ImageFont.load_default(size)
        pen.text((WIDTH / 2, HEIGHT * y), text, fill="black", font=font, anchor="mm")
    save(name, card)


def save(name: str, sheet: Image.Image) -> None:
    sheet.save(EXAMPLES / f"{name}.jpg", quality=88)
    print(f"wrote example_workflows/{name}.jpg")


if __name__ == "__main__":
    main()
