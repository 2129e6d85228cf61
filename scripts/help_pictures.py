"""Takes the pictures of the help pages: every node, with what it shows."""

from __future__ import annotations

import json
from collections.abc import Sequence

from comfy_page import CLASSIC, Page, open_page, write_settings
from comfy_server import PACK, Server
from playwright.sync_api import Browser
from screens import APPLIES, EXAMPLES, PATIENCE_MS, WATCHED, loras, newest_lora, take

HELP = PACK / "web" / "docs" / "pictures"  # beside the help pages that show them
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
