"""Puts the pictures of the last `make demo` where the README and the template browser show them.

With `--thumbnails` it runs the other example workflows, and shows beside each what it saved.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from comfy_server import PACK, Server, comfy_server
from PIL import Image, ImageOps
from setup import comfyui_path
from workflow_api import to_api

DEMO, DOCS, EXAMPLES = PACK / "output" / "demo", PACK / "docs", PACK / "example_workflows"
SHOWN = ("before_after.png", "attention.png", "loss_curve.png")
OF_DEMO = "erase_object"  # the workflow that the demo runs
LAST_ALONE = "look_inside"  # whose sheets are too large to stand beside each other
WIDTH, HEIGHT, COLUMNS = 480, 320, 3  # of a thumbnail, in pixels; pictures in a row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--thumbnails", action="store_true", help="of the other workflows")
    if parser.parse_args().thumbnails:
        with (
            tempfile.TemporaryDirectory() as base,
            comfy_server(comfyui_path(), Path(base)) as server,
        ):
            for file in sorted(EXAMPLES.glob("*.json")):
                if file.stem != OF_DEMO:
                    saved = pictures_of(server, file)
                    save_thumbnail(file.stem, saved[-1:] if file.stem == LAST_ALONE else saved)
        return
    for name in SHOWN:
        shutil.copy(DEMO / name, DOCS)
        print(f"wrote docs/{name}")
    drawn = [sorted(DEMO.rglob(f"erase_{model}_*_00001_.png")) for model in ("base", "erased")]
    save_thumbnail(OF_DEMO, [path for paths in drawn for path in paths[:COLUMNS]])


def pictures_of(server: Server, workflow: Path) -> list[Path]:
    """What a workflow saves, run as it lies in the repository."""
    prompt = to_api(json.loads(workflow.read_text(encoding="utf-8")), server.object_info())
    shown = server.run(prompt)
    saved = [each for each, node in prompt.items() if node["class_type"] == "SaveImage"]
    return [path for each in saved for path in server.files(shown[each])]


def save_thumbnail(name: str, files: Sequence[Path]) -> None:
    """The pictures in a grid, each as large as fits its place, beside the workflow."""
    columns = min(len(files), COLUMNS)
    cell = WIDTH // columns, HEIGHT // -(-len(files) // columns)
    sheet = Image.new("RGB", (WIDTH, HEIGHT), "white")
    for at, path in enumerate(files):
        picture = ImageOps.pad(Image.open(path).convert("RGB"), cell, color="white")
        sheet.paste(picture, (at % columns * cell[0], at // columns * cell[1]))
    sheet.save(EXAMPLES / f"{name}.jpg", quality=88)
    print(f"wrote example_workflows/{name}.jpg")


if __name__ == "__main__":
    main()
