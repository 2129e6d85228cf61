"""Each workflow, opened from the template browser as an artist opens it, and queued."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from comfy_page import Page
from comfy_server import PACK
from visits import Visit

pytestmark = pytest.mark.both_frontends

TEMPLATES = sorted(path.stem for path in (PACK / "example_workflows").glob("*.json"))
LIKE_OTHERS = ("erase_artist", "erase_logo")  # as erase_person, but for their words
# So little that a workflow takes seconds; what it is worth then is no matter here.
LITTLE = {"steps": 2, "resolution": 64, "batch": 1, "batch_size": 1, "width": 64, "height": 64}


@pytest.fixture(scope="module")
def page(visit: Visit) -> Iterator[Page]:
    """One visit, with the renderer that this frontend begins with."""
    with visit() as opened:
        yield opened


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.thorough] * (name in LIKE_OTHERS))
        for name in TEMPLATES
    ],
)
def test_a_workflow_is_opened_and_runs(page: Page, name: str) -> None:
    page.load_template(name)
    page.run(WITH_THE_MINIATURE)
    page.run(
        """little => {
            for (const node of app.rootGraph.nodes)
                for (const widget of node.widgets ?? [])
                    if (widget.name in little) widget.value = little[widget.name];
        }""",
        # Of what another workflow has run already, the host tells the page nothing.
        LITTLE | {"seed": TEMPLATES.index(name)},
    )
    page.queue()
    assert page.end_of_run() == "execution_success"
    page.tab.wait_for_function(EVERY_VIEW_SHOWS_ITS_RESULT)
    assert page.run(OVERLAPS) == []
    assert page.run(OUTSIDE) == []


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
