"""Pictures of nodes in ComfyUI's page, and what those who take them share."""

from __future__ import annotations

import io
import math
from pathlib import Path

from comfy_page import Page
from comfy_server import PACK, Server
from PIL import Image
from setup import NEWEST_PAGE

SCREENS = PACK / "docs" / "screens"
NEWEST = SCREENS / "newest"
EXAMPLES = PACK / "example_workflows"
TRAIN = "3"  # the train node's id in erase_object
WATCHED = (
    *("EraseAnythingTinyFlux", "EraseAnythingWatch", "EraseAnythingApply", "EraseAnythingWatched"),
    *("KSampler", "CLIPTextEncode", "EmptySD3LatentImage"),
)
PATIENCE_MS = 900_000
EDGE = 16  # pixels around the node

APPLIES = """() => app.rootGraph.nodes
    .filter(node => node.type === "EraseAnythingApply")
    .map(node => String(node.id))"""


def newest_lora(server: Server) -> str:
    return loras(server)[-1]


def loras(server: Server) -> list[str]:
    """What was trained to its end, the last one last, as the list of files names it."""
    folder = server.base / "models" / "loras"
    files = sorted(folder.rglob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    return [file.relative_to(folder).as_posix() for file in files if "_step" not in file.name]


def folder_for(page: Page) -> Path:
    return NEWEST if str(NEWEST_PAGE) in page.server.options else SCREENS


def take(page: Page, name: str, node: str = TRAIN, *, folder: Path | None = None) -> None:
    """Saves the node as it looks now, with what is around it cut off."""
    page.tab.wait_for_timeout(600)  # the node grows in the frame after its view has
    page.redraw()
    page.tab.wait_for_timeout(600)
    box = page.box_of(node)
    bottom, seen = box["y"] + box["height"] + EDGE, page.tab.viewport_size
    if seen and bottom > seen["height"]:
        page.tab.set_viewport_size({"width": seen["width"], "height": math.ceil(bottom)})
        page.tab.wait_for_timeout(600)
    clip = {"x": box["x"] - EDGE, "y": box["y"] - EDGE}
    clip |= {side: box[side] + 2 * EDGE for side in ("width", "height")}
    save(page, clip, (folder or folder_for(page)) / f"{name}.png")


def save(page: Page, clip: dict[str, float], file: Path) -> None:
    shot = Image.open(io.BytesIO(page.tab.screenshot(clip=clip)))  # type: ignore[arg-type]
    shot.convert("RGB").save(file, optimize=True)
    print(f"wrote {file.relative_to(PACK)}", flush=True)
