"""Takes the pictures of our views in docs/screens: each state, in both renderers and themes; and
those of the help pages: every node, with what it shows. `--newest`: a few, on a newest frontend.

Look at them after a change of the page: tests say that something is there, not that it is legible.
"""

from __future__ import annotations

import argparse
import json
import re
import tempfile
from pathlib import Path
from typing import Any

from comfy_page import CLASSIC, NODES_2, Page, chromium, open_page, write_settings
from comfy_server import Server, comfy_server
from help_pictures import HELP, take_help
from playwright.sync_api import Browser, expect
from screens import (
    APPLIES,
    EDGE,
    EXAMPLES,
    NEWEST,
    PATIENCE_MS,
    SCREENS,
    TRAIN,
    WATCHED,
    folder_for,
    newest_lora,
    save,
    take,
)
from setup import NEWEST_PAGE, comfyui_path

WORKFLOW = EXAMPLES / "erase_object.json"
KINDS = ("EraseAnythingTinyFlux", "EraseAnythingTrain")
INSIDE = EXAMPLES / "look_inside.json"
MAPS = ("EraseAnythingTinyFlux", "EraseAnythingApply", "EraseAnythingAttention")
FIRST = ("EraseAnythingTinyFlux", "EraseAnythingTrain", "EraseAnythingApply")
SMALL = 0.8  # zoom, at which a workflow fits the page and can still be read
LIGHT = {"Comfy.ColorPalette": "light"}
NO_BAR = {"Comfy.Graph.CanvasMenu": False}  # of zoom, over a corner of the canvas


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--help-pages", action="store_true", help="only the pictures in them")
    which.add_argument("--newest", action="store_true", help="a few, of a newest frontend")
    options = parser.parse_args()
    expect.set_options(timeout=PATIENCE_MS)
    for folder in (SCREENS, NEWEST, HELP):
        folder.mkdir(parents=True, exist_ok=True)
    page = ("--front-end-root", str(NEWEST_PAGE)) if options.newest else ()
    with (
        tempfile.TemporaryDirectory() as base,
        comfy_server(comfyui_path(), Path(base), options=page) as server,
        chromium() as browser,
    ):
        if options.newest:
            take_few(browser, server)
            return
        if not options.help_pages:
            take_screens(browser, server)
        take_help(browser, server)


def take_few(browser: Browser, server: Server) -> None:
    """What differs most between frontends: both renderers, maps, a workflow, a subgraph."""
    take_finished(browser, server, "done", CLASSIC)
    take_finished(browser, server, "nodes_2", NODES_2)
    take_maps(browser, server, "maps", CLASSIC)
    take_workflow(browser, server)
    take_subgraph(browser, server)


def take_screens(browser: Browser, server: Server) -> None:
    take_training(browser, server)
    take_finished(browser, server, "nodes_2", NODES_2)
    take_finished(browser, server, "light", CLASSIC | LIGHT)
    take_finished(browser, server, "nodes_2_light", NODES_2 | LIGHT)
    take_endings(browser, server)
    take_maps(browser, server, "maps", CLASSIC)
    take_maps(browser, server, "maps_nodes_2_light", NODES_2 | LIGHT)
    take_watched(browser, server)
    take_workflow(browser, server)
    take_subgraph(browser, server)


def take_training(browser: Browser, server: Server) -> None:
    """The classic canvas: before, while sampling, while hardening, finished."""
    write_settings(server.base, CLASSIC)
    with open_page(browser, server) as page:
        prepare(page)
        take(page, "idle")
        page.queue()
        wait_for(page, "sampling")
        take(page, "sampling")
        wait_for(page, "hardening")
        expect(page.views().first.locator(".steps")).to_have_text(re.compile(r"^step 1\d of"))
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
        wait_for(page, "hardening")
        expect(page.views().first.locator("img")).to_have_count(5)
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


def take_workflow(browser: Browser, server: Server) -> None:
    """The nodes that an erasure begins with, joined as in the example workflow, after a run."""
    write_settings(server.base, CLASSIC | NO_BAR)
    with open_page(browser, server) as page:
        page.load(json.loads((EXAMPLES / "erase_style.json").read_text(encoding="utf-8")))
        page.keep_only(*FIRST)
        page.queue()
        wait_for(page, "done")
        page.tab.wait_for_timeout(6000)  # the page tells that a job is done, over the nodes
        page.look_at(page.id_of(FIRST[0]), zoom=SMALL)
        page.tab.wait_for_timeout(1200)
        boxes = [page.box_of(page.id_of(kind)) for kind in FIRST]
        top = min(box["y"] for box in boxes) - EDGE
        page.run(UP, (top - 100) / SMALL)
        page.tab.wait_for_timeout(1200)
        boxes = [box | {"y": box["y"] - top + 100} for box in boxes]
        left = min(box["x"] for box in boxes) - EDGE
        clip = {
            "x": left,
            "y": 100,
            "width": max(box["x"] + box["width"] for box in boxes) + EDGE - left,
            "height": max(box["y"] + box["height"] for box in boxes) + EDGE - 100,
        }
        save(page, clip, folder_for(page) / "workflow.png")


def take_subgraph(browser: Browser, server: Server) -> None:
    """The blueprint, once it has run: what its nodes show, on the subgraph itself."""
    write_settings(server.base, CLASSIC)
    with open_page(browser, server) as page:
        page.run("() => app.rootGraph.clear()")
        page.add_from_library("Erase and Compare")
        page.run("() => { app.extensionManager.sidebarTab.activeSidebarTabId = null; }")
        subgraph = page.run("() => String(app.rootGraph.nodes[0].id)")
        page.give_model(subgraph)
        page.set_widgets(subgraph, resolution=128)
        page.look_at(subgraph)
        page.queue()
        assert page.end_of_run(PATIENCE_MS) == "execution_success"
        take(page, "subgraph", subgraph)


UP = "dy => { app.canvas.ds.offset[1] -= dy; app.canvas.setDirty(true, true); }"


def prepare(page: Page) -> None:
    """The example workflow's train node alone."""
    page.load(json.loads(WORKFLOW.read_text(encoding="utf-8")))
    page.keep_only(*KINDS)
    page.look_at(TRAIN)
    expect(page.views().first).to_be_visible()


def wait_for(page: Page, state: str) -> None:
    expect(page.views().first).to_have_attribute("data-state", state)


if __name__ == "__main__":
    main()
