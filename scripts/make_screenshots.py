"""Takes the pictures of our views in docs/screens: each state, in both renderers and themes; and
those of the help pages: every node, with what it shows.

Look at them after a change of the page: tests say that something is there, not that it is legible.
"""

from __future__ import annotations

import argparse
import io
import json
import re
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comfy_page import CLASSIC, NODES_2, Page, chromium, open_page, write_settings
from comfy_server import PACK, Server, comfy_server
from PIL import Image
from playwright.sync_api import Browser, expect
from setup import comfyui_path

SCREENS = PACK / "docs" / "screens"
HELP = PACK / "web" / "docs" / "pictures"  # beside the help pages that show them
EXAMPLES = PACK / "example_workflows"
WORKFLOW = EXAMPLES / "erase_object.json"
TRAIN = "3"  # the node's id in that workflow
KINDS = ("EraseAnythingTinyFlux", "EraseAnythingTrain")
INSIDE = EXAMPLES / "look_inside.json"
MAPS = ("EraseAnythingTinyFlux", "EraseAnythingApply", "EraseAnythingAttention")
WATCHED = (
    *("EraseAnythingTinyFlux", "EraseAnythingWatch", "EraseAnythingApply", "EraseAnythingWatched"),
    *("KSampler", "CLIPTextEncode", "EmptySD3LatentImage"),
)
FIRST = ("EraseAnythingTinyFlux", "EraseAnythingTrain", "EraseAnythingApply")
PATIENCE_MS = 900_000
SMALL = 0.8  # zoom, at which a workflow fits the page and can still be read
EDGE = 16  # pixels around the node

LIGHT = {"Comfy.ColorPalette": "light"}
# For the help pages: by workflow, the nodes that have to run with those that are shown.
IN_WORKFLOW = {
    "erase_object": ((), ("EraseAnythingTinyFlux", "EraseAnythingTrain")),
    "look_inside": (
        WATCHED,
        (
            *("EraseAnythingAttention", "EraseAnythingApply"),
            *("EraseAnythingWatch", "EraseAnythingWatched"),
        ),
    ),
    "erase_style": (
        ("EraseAnythingTinyFlux", "EraseAnythingTrain", "EraseAnythingApply"),
        ("EraseAnythingReport",),
    ),
    "several_concepts": (("EraseAnythingTinyFlux",), ("EraseAnythingPlan",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--help-pages", action="store_true", help="only the pictures in them")
    options = parser.parse_args()
    expect.set_options(timeout=PATIENCE_MS)
    for folder in (SCREENS, HELP):
        folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory() as base,
        comfy_server(comfyui_path(), Path(base)) as server,
        chromium() as browser,
    ):
        if not options.help_pages:
            take_screens(browser, server)
        take_help(browser, server)


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
    """The nodes that an erasure begins with, joined as in the example workflow, before a run."""
    write_settings(server.base, CLASSIC)
    with open_page(browser, server) as page:
        page.load(json.loads((EXAMPLES / "erase_style.json").read_text(encoding="utf-8")))
        page.keep_only(*FIRST)
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
        save(page, clip, SCREENS / "workflow.png")


def take_help(browser: Browser, server: Server) -> None:
    """Every node for its help page, after a run in an example workflow that it stands in."""
    write_settings(server.base, CLASSIC)
    with open_page(browser, server) as page:
        for workflow, (others, shown) in IN_WORKFLOW.items():
            page.load(json.loads((EXAMPLES / f"{workflow}.json").read_text(encoding="utf-8")))
            page.keep_only(*others, *shown)
            if "EraseAnythingTrain" not in (*others, *shown):
                for apply in page.run(APPLIES):
                    page.set_widgets(apply, file=newest_lora(server))
            take_nodes(page, shown)
        page.run("() => app.rootGraph.clear()")
        page.run("() => app.rootGraph.add(LiteGraph.createNode('EraseAnythingMerge'))")
        files = {f"file_{slot}": name for slot, name in enumerate(loras(server)[:2], 1)}
        page.set_widgets(page.id_of("EraseAnythingMerge"), method="sum", **files)
        take_nodes(page, ["EraseAnythingMerge"])
        take_list(page)


def take_list(page: Page) -> None:
    """The node that draws a list, alone with a miniature."""
    page.run(LIST_ALONE)
    node = page.id_of("EraseAnythingPromptList")
    page.set_widgets(node, prompts=PROMPTS, folder_name="before", pictures=2, resolution=128)
    take_nodes(page, ["EraseAnythingPromptList"])


def take_nodes(page: Page, kinds: Sequence[str]) -> None:
    page.queue()
    assert page.end_of_run(PATIENCE_MS) == "execution_success"
    for kind in kinds:
        node = page.id_of(kind)
        page.look_at(node)
        take(page, kind, node, folder=HELP)


PROMPTS = """case_number,prompt,evaluation_seed
0,"a red star, on a white background",7
1,a blue circle on a black background,8
"""
LIST_ALONE = """() => {
    app.rootGraph.clear();
    const kinds = ["EraseAnythingTinyFlux", "EraseAnythingPromptList"];
    const [tiny, list] = kinds.map((kind, at) => {
        const node = LiteGraph.createNode(kind);
        app.rootGraph.add(node);
        node.pos = [at * 400, 0];
        return node;
    });
    [0, 1, 2].forEach(slot => tiny.connect(slot, list, slot));
}"""
UP = "dy => { app.canvas.ds.offset[1] -= dy; app.canvas.setDirty(true, true); }"
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


def prepare(page: Page) -> None:
    """The example workflow's train node alone."""
    page.load(json.loads(WORKFLOW.read_text(encoding="utf-8")))
    page.keep_only(*KINDS)
    page.look_at(TRAIN)
    expect(page.views().first).to_be_visible()


def wait_for(page: Page, state: str) -> None:
    expect(page.views().first).to_have_attribute("data-state", state)


def take(page: Page, name: str, node: str = TRAIN, *, folder: Path = SCREENS) -> None:
    """Saves the node as it looks now, with what is around it cut off."""
    page.tab.wait_for_timeout(600)  # the node grows in the frame after its view has
    page.redraw()
    page.tab.wait_for_timeout(600)
    box = page.box_of(node)
    clip = {"x": box["x"] - EDGE, "y": box["y"] - EDGE}
    clip |= {side: box[side] + 2 * EDGE for side in ("width", "height")}
    save(page, clip, folder / f"{name}.png")


def save(page: Page, clip: dict[str, float], file: Path) -> None:
    shot = Image.open(io.BytesIO(page.tab.screenshot(clip=clip)))  # type: ignore[arg-type]
    shot.convert("RGB").save(file, optimize=True)
    print(f"wrote {file.relative_to(PACK)}", flush=True)


if __name__ == "__main__":
    main()
