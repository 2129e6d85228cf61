"""Takes the pictures of our views in docs/screens: each state, in both renderers and themes.

Look at them after a change of the page: tests say that something is there, not that it is legible.
"""

from __future__ import annotations

import io
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from comfy_page import CLASSIC, NODES_2, Page, chromium, open_page, write_settings
from comfy_server import PACK, Server, comfy_server
from PIL import Image
from playwright.sync_api import Browser, expect
from setup import comfyui_path

FOLDER = PACK / "docs" / "screens"
WORKFLOW = PACK / "example_workflows" / "erase_object.json"
TRAIN = "3"  # the node's id in that workflow
KINDS = ("EraseAnythingTinyFlux", "EraseAnythingTrain")
INSIDE = WORKFLOW.with_name("look_inside.json")
MAPS = ("EraseAnythingTinyFlux", "EraseAnythingApply", "EraseAnythingAttention")
WATCHED = (
    *("EraseAnythingTinyFlux", "EraseAnythingWatch", "EraseAnythingApply", "EraseAnythingWatched"),
    *("KSampler", "CLIPTextEncode", "EmptySD3LatentImage"),
)
PATIENCE_MS = 900_000
EDGE = 16  # pixels around the node

LIGHT = {"Comfy.ColorPalette": "light"}


def main() -> None:
    expect.set_options(timeout=PATIENCE_MS)
    FOLDER.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as base,
        comfy_server(comfyui_path(), Path(base)) as server,
        chromium() as browser,
    ):
        take_training(browser, server)
        take_finished(browser, server, "nodes_2", NODES_2)
        take_finished(browser, server, "light", CLASSIC | LIGHT)
        take_finished(browser, server, "nodes_2_light", NODES_2 | LIGHT)
        take_endings(browser, server)
        take_maps(browser, server, "maps", CLASSIC)
        take_maps(browser, server, "maps_nodes_2_light", NODES_2 | LIGHT)
        take_watched(browser, server)


def take_training(browser: Browser, server: Server) -> None:
    """The classic canvas: before, while sampling, training, finished."""
    write_settings(server.base, CLASSIC)
    with open_page(browser, server) as page:
        prepare(page)
        take(page, "idle")
        page.queue()
        wait_for(page, "sampling")
        take(page, "sampling")
        wait_for(page, "training")
        expect(page.views().first.locator(".steps")).to_have_text(re.compile(r"^step [67]\d of"))
        take(page, "training")
        wait_for(page, "done")
        take(page, "done")


def take_finished(browser: Browser, server: Server, name: str, settings: dict[str, Any]) -> None:
    """The same training, which the server still has in its cache, in another look."""
    write_settings(server.base, settings)
    with open_page(browser, server) as page:
        prepare(page)
        page.queue()
        wait_for(page, "done")
        take(page, name)


def take_endings(browser: Browser, server: Server) -> None:
    """A training that can't start, and one that is cancelled."""
    write_settings(server.base, CLASSIC)
    with open_page(browser, server) as page:
        prepare(page)
        page.set_widgets(TRAIN, keep="a yellow star")
        page.queue()
        wait_for(page, "failed")
        report = page.tab.get_by_role("dialog")  # the host's own, over the node
        report.wait_for()
        page.tab.keyboard.press("Escape")
        report.wait_for(state="hidden")
        take(page, "failed")
        page.set_widgets(TRAIN, keep="", batch=1)
        page.queue()
        wait_for(page, "training")
        expect(page.views().first.locator("img")).to_have_count(4)
        page.cancel()
        wait_for(page, "cancelled")
        take(page, "cancelled")


def take_maps(browser: Browser, server: Server, name: str, settings: dict[str, Any]) -> None:
    """The attention node with the erasure that was trained for the other pictures."""
    write_settings(server.base, settings)
    with open_page(browser, server) as page:
        page.load(json.loads(WORKFLOW.read_text(encoding="utf-8")))
        page.keep_only(*MAPS)
        apply, maps = (page.id_of(kind) for kind in MAPS[1:])
        page.set_widgets(apply, file=newest_lora(server))
        page.set_widgets(maps, words="", view="saliency")
        page.look_at(maps)
        page.queue()
        view = page.tab.locator(".eraseanything-maps:visible").first
        expect(view).to_have_attribute("data-state", "done")
        view.get_by_role("button", name="star", exact=True).click()
        take(page, name, maps)


def take_watched(browser: Browser, server: Server) -> None:
    """What was seen of two stock samplers' pictures, with the erasure of the other pictures."""
    write_settings(server.base, CLASSIC)
    with open_page(browser, server) as page:
        page.load(json.loads(INSIDE.read_text(encoding="utf-8")))
        page.keep_only(*WATCHED)
        for apply in page.run(APPLIES):
            page.set_widgets(apply, file=newest_lora(server))
        watched = page.id_of("EraseAnythingWatched")
        page.look_at(watched)
        page.queue()
        view = page.tab.locator(".eraseanything-maps:visible").first
        expect(view).to_have_attribute("data-state", "done")
        take(page, "watched", watched)


APPLIES = """() => app.rootGraph.nodes
    .filter(node => node.type === "EraseAnythingApply")
    .map(node => String(node.id))"""


def newest_lora(server: Server) -> str:
    """What was trained last, as the list of files names it."""
    loras = server.base / "models" / "loras"
    newest = max(loras.rglob("*.safetensors"), key=lambda path: path.stat().st_mtime)
    return newest.relative_to(loras).as_posix()


def prepare(page: Page) -> None:
    """The example workflow's train node alone."""
    page.load(json.loads(WORKFLOW.read_text(encoding="utf-8")))
    page.keep_only(*KINDS)
    page.look_at(TRAIN)
    expect(page.views().first).to_be_visible()


def wait_for(page: Page, state: str) -> None:
    expect(page.views().first).to_have_attribute("data-state", state)


def take(page: Page, name: str, node: str = TRAIN) -> None:
    """Saves the node as it looks now, with what is around it cut off."""
    page.tab.wait_for_timeout(600)  # the node grows in the frame after its view has
    page.redraw()
    page.tab.wait_for_timeout(600)
    box = page.box_of(node)
    clip = {"x": box["x"] - EDGE, "y": box["y"] - EDGE}
    clip |= {side: box[side] + 2 * EDGE for side in ("width", "height")}
    shot = Image.open(io.BytesIO(page.tab.screenshot(clip=clip)))
    file = FOLDER / f"{name}.png"
    shot.convert("RGB").save(file, optimize=True)
    print(f"wrote {file.relative_to(PACK)}", flush=True)


if __name__ == "__main__":
    main()
