"""Writes example_workflows/*.json and the blueprint; run it again when a node's inputs change.

It asks a running server what each node has, so the widgets are always in the page's order. With
`--thumbnails` it also runs each workflow but the demo's own, and shows what it saved beside it.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from blueprint import NAME, blueprint
from comfy_server import PACK, Server, comfy_server
from PIL import Image
from setup import comfyui_path
from workflow_api import to_api
from workflow_canvas import Canvas
from workflows import WORKFLOWS

FOLDER = PACK / "example_workflows"
BLUEPRINT = PACK / "subgraphs" / f"{NAME}.json"
WIDTH, HEIGHT, COLUMNS = 480, 320, 3  # of a thumbnail, in pixels; pictures in a row
LAST_ALONE = "look_inside"  # whose sheets are too large to stand beside each other
OF_DEMO = "erase_object"  # its thumbnail is made from the demo's pictures, by make_docs.py


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--thumbnails", nargs="*", metavar="NAME", help="of these, or of all")
    options = parser.parse_args()
    wanted = options.thumbnails
    with (
        tempfile.TemporaryDirectory() as base,
        comfy_server(comfyui_path(), Path(base)) as server,
    ):
        object_info = server.object_info()
        for name in WORKFLOWS:
            write(FOLDER / f"{name}.json", workflow_text(name, object_info))
        write(BLUEPRINT, text_of(blueprint(object_info)))
        if wanted is None:
            return
        for name in wanted or [each for each in WORKFLOWS if each != OF_DEMO]:
            text = (FOLDER / f"{name}.json").read_text(encoding="utf-8")
            save_thumbnail(server, name, to_api(json.loads(text), object_info))


def workflow_text(name: str, object_info: dict[str, Any]) -> str:
    """The whole file of one workflow, for the nodes of this server."""
    canvas = Canvas(object_info)
    WORKFLOWS[name](canvas)
    return text_of(canvas.workflow(name))


def text_of(workflow: dict[str, Any]) -> str:
    return json.dumps(workflow, indent=1, ensure_ascii=False) + "\n"


def write(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text, encoding="utf-8")
    print(f"wrote {file.relative_to(PACK)}", flush=True)


def save_thumbnail(server: Server, name: str, prompt: dict[str, Any]) -> None:
    """Runs a workflow, and makes one picture of those it saved."""
    shown = server.run(prompt)
    saved = [each for each, node in prompt.items() if node["class_type"] == "SaveImage"]
    files = [file for each in saved for file in server.files(shown[each])]
    file = FOLDER / f"{name}.jpg"
    thumbnail(files[-1:] if name == LAST_ALONE else files).save(file, quality=88)
    print(f"wrote {file.relative_to(PACK)}", flush=True)


def thumbnail(files: Sequence[Path]) -> Image.Image:
    """The pictures in a grid, each as large as fits its cell."""
    columns = min(len(files), COLUMNS)
    rows = -(-len(files) // columns)
    cell = WIDTH // columns, HEIGHT // rows
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    for at, path in enumerate(files):
        with Image.open(path) as picture:
            small = picture.convert("RGB")
        small.thumbnail(cell)
        corner = (at % columns * cell[0], at // columns * cell[1])
        spare = [(whole - part) // 2 for whole, part in zip(cell, small.size, strict=True)]
        sheet.paste(small, (corner[0] + spare[0], corner[1] + spare[1]))
    return sheet


if __name__ == "__main__":
    main()
