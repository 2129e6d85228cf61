"""A template in ComfyUI's page: opened as an artist opens it, run with little to do, laid out."""

from __future__ import annotations

from typing import Any

from comfy_page import Page
from comfy_server import PACK

TEMPLATES = sorted(path.stem for path in (PACK / "example_workflows").glob("*.json"))
# So little that a workflow takes seconds; what it is worth then is no matter here.
LITTLE = {"steps": 2, "resolution": 64, "batch": 1, "batch_size": 1, "width": 64, "height": 64}


def run_template(page: Page, name: str) -> None:
    """Opens and runs a template; AssertionError where it fails, or a node lies where it should not.

    What is too large for a test is made small, and the miniature stands in for files.
    """
    page.load_template(name)
    page.run(WITH_THE_MINIATURE)
    # Of what another workflow has run already, the host tells the page nothing.
    make_small(page, seed=TEMPLATES.index(name))
    run(page)
    page.tab.wait_for_function(EVERY_VIEW_SHOWS_ITS_RESULT)
    assert page.run(OVERLAPS) == []
    assert page.run(OUTSIDE) == []


def make_small(page: Page, **others: Any) -> None:
    """Sets the widgets of LITTLE, and others by their names, on every node that has them."""
    page.run(
        """values => {
            for (const node of app.rootGraph.nodes)
                for (const widget of node.widgets ?? [])
                    if (widget.name in values) widget.value = values[widget.name];
        }""",
        LITTLE | others,
    )


def run(page: Page) -> None:
    page.queue()
    assert page.end_of_run() == "execution_success"


# Loaders of files that are not here give way to the miniature.
WITH_THE_MINIATURE = """() => {
    const kinds = ["UNETLoader", "DualCLIPLoader", "VAELoader"];
    const loaders = app.rootGraph.nodes.filter(node => kinds.includes(node.type));
    if (!loaders.length) return;
    const tiny = LiteGraph.createNode("EraseAnythingTinyFlux");
    app.rootGraph.add(tiny);
    tiny.pos = [loaders[0].pos[0], loaders[0].pos[1]];
    tiny.size = [...loaders[0].size];
    for (const loader of loaders) {
        for (const id of [...loader.outputs[0].links]) {
            const { target_id, target_slot } = app.rootGraph.links.get(id);
            const target = app.rootGraph.getNodeById(target_id);
            tiny.connect(kinds.indexOf(loader.type), target, target_slot);
        }
    }
    for (const loader of loaders) app.rootGraph.remove(loader);
}"""

EVERY_VIEW_SHOWS_ITS_RESULT = """() => {
    const views = app.rootGraph.nodes
        .flatMap(node => node.widgets ?? [])
        .filter(widget => widget.name.startsWith("eraseanything_"))
        .map(widget => widget.element);
    const shows = view => view.dataset.state === "done" || view.querySelector(".text")?.textContent;
    return views.length && views.every(shows);
}"""

# Nodes grow by what they show; still none lies over another.
OVERLAPS = """() => {
    const boxes = app.rootGraph.nodes.map(node => [node.type, ...node.pos, ...node.size]);
    const over = ([, x, y, width, height], [, left, top, wide, tall]) =>
        x < left + wide && left < x + width && y < top + tall && top < y + height;
    return boxes.flatMap((one, index) =>
        boxes.slice(index + 1).filter(other => over(one, other)).map(other => [one, other]));
}"""

# And none grows out of its group.
OUTSIDE = """() => {
    const inside = ({ pos: [x, y], size: [width, height] }, { pos: [left, top], size }) =>
        left <= x && top <= y - 30 && x + width <= left + size[0] && y + height <= top + size[1];
    return app.rootGraph.nodes
        .filter(node => !app.rootGraph.groups.some(group => inside(node, group)))
        .map(node => [node.type, ...node.pos, ...node.size]);
}"""
