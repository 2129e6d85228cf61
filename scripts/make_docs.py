"""Puts the pictures of the last `make demo` where the README and the template browser show them."""

from __future__ import annotations

import shutil

from comfy_server import PACK
from PIL import Image

DEMO, DOCS = PACK / "output" / "demo", PACK / "docs"
SHOWN = ("before_after.png", "attention.png", "loss_curve.png")
THUMBNAIL = PACK / "example_workflows" / "erase_object.jpg"
SIDE, COLUMNS = 160, 3  # pixels of one picture; pictures in a row of the thumbnail


def main() -> None:
    DOCS.mkdir(exist_ok=True)
    for name in SHOWN:
        shutil.copy(DEMO / name, DOCS)
        print(f"wrote docs/{name}")
    thumbnail().save(THUMBNAIL, quality=90)
    print(f"wrote {THUMBNAIL.relative_to(PACK)}")


def thumbnail() -> Image.Image:
    """Pictures of a prompt that names the concept: before above, after below."""
    sheet = Image.new("RGB", (COLUMNS * SIDE, 2 * SIDE), "white")
    for row, model in enumerate(("base", "erased")):
        pictures = sorted(DEMO.rglob(f"erase_{model}_*_00001_.png"))[:COLUMNS]
        for column, path in enumerate(pictures):
            with Image.open(path) as picture:
                sheet.paste(picture.resize((SIDE, SIDE)), (column * SIDE, row * SIDE))
    return sheet


if __name__ == "__main__":
    main()
