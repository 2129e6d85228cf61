"""Puts the pictures of the last `make demo` where the README and the template browser show them.

With `--thumbnails` it runs the other example workflows, and shows beside each what it saved; of one
that wants files of a person's own, its title and what it wants. Names after it: only those.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from comfy_server import PACK, Server, comfy_server
from PIL import Image, ImageDraw, ImageFont, ImageOps
from setup import comfyui_path
from workflow_api import to_api

DEMO, DOCS, EXAMPLES = PACK / "output" / "demo", PACK / "docs", PACK / "example_workflows"
SHOWN = ("before_after.png", "attention.png", "loss_curve.png")
OF_DEMO = "erase_object"  # the workflow that the demo runs
LAST_ALONE = "look_inside"  # whose sheets are too large to stand beside each other
WANTS = "UNETLoader"  # a node of workflows for a model of one's own
WIDTH, HEIGHT, COLUMNS = 480, 320, 3  # of a thumbnail, in pixels; pictures in a row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--thumbnails", nargs="*", help="of the other workflows", metavar="NAME")
    names = parser.parse_args().thumbnails
    if names is not None:
        make_thumbnails([EXAMPLES / f"{name}.json" for name in names] or EXAMPLES.glob("*.json"))
        return
    for name in SHOWN:
        shutil.copy(DEMO / name, DOCS)
        print(f"wrote docs/{name}")
    drawn = [sorted(DEMO.rglob(f"erase_{model}_*_00001_.png")) for model in ("base", "erased")]
    save_thumbnail(OF_DEMO, [path for paths in drawn for path in paths[:COLUMNS]])


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
                saved = pictures_of(server, workflow)
                save_thumbnail(file.stem, saved[-1:] if file.stem == LAST_ALONE else saved)


def pictures_of(server: Server, workflow: dict[str, Any]) -> list[Path]:
    """What a workflow saves, run as it lies in the repository."""
    prompt = to_api(workflow, server.object_info())
    shown = server.run(prompt)
    saved = [each for each, node in prompt.items() if node["class_type"] == "SaveImage"]
    return [path for each in saved for path in server.files(shown[each])]


def save_thumbnail(name: str, files: Sequence[Path]) -> None:
    """The pictures in a grid, each as large as fits its place, beside the workflow."""
    columns = min(len(files), COLUMNS)
    cell = WIDTH // columns, HEIGHT // -(-len(files) // columns)
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    for at, path in enumerate(files):
        picture = Image.open(path).convert("RGB")
        shown = picture.width, min(picture.height, picture.width)  # of a tall sheet, its beginning
        picture = ImageOps.pad(picture.crop((0, 0, *shown)), cell, color="white")
        sheet.paste(picture, (at % columns * cell[0], at // columns * cell[1]))
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
