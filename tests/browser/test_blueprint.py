"""The subgraph blueprint, taken from the node library as an artist takes it, and queued."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from comfy_page import Page
from comfy_server import Server
from playwright.sync_api import expect
from train_view import drawn_share
from visits import Visit

pytestmark = pytest.mark.both_frontends

CHOSEN = {
    "concept": "ring",
    "kind": "object",
    "replace_with": "disc",
    "resolution": 64,
    "steps": 2,
    "seed": 3,
    "erase_prompts": "a red ring",
    "keep_prompts": "a blue star",
}


@pytest.fixture
def page(visit: Visit) -> Iterator[Page]:
    with visit() as opened:
        yield opened


# Where a page makes the subgraph's widgets anew by that.
PROMOTE_ANOTHER_BOX = """() => {
    const { properties } = app.rootGraph.nodes[0];
    if (properties.proxyWidgets)
        properties.proxyWidgets = [...properties.proxyWidgets, ["1", "rank"]];
}"""

UNDER_THE_BOXES = """() => {
    const { widgets } = app.rootGraph.nodes[0];
    const ours = widgets.map(({ name }) => name.startsWith("eraseanything_"));
    return ours.indexOf(true) >= 8 && ours.filter(Boolean).length === 2;
}"""


def test_it_stands_in_the_node_library_runs_and_shows_it(page: Page, server: Server) -> None:
    page.run("() => app.rootGraph.clear()")
    page.add_from_library("Erase and Compare")
    node = page.run("() => String(app.rootGraph.nodes[0].id)")
    page.set_widgets(node, **CHOSEN)
    page.give_model(node)
    page.run(PROMOTE_ANOTHER_BOX)
    page.look_at(node, zoom=0.4)
    page.queue()
    assert page.end_of_run() == "execution_success"
    expect(page.tab.locator("[data-state=done]:visible img")).to_have_count(5)
    assert drawn_share(page.views().first) > 0
    result = page.tab.locator(".eraseanything-text:visible")
    expect(result).to_contain_text("to erase: pixels differ")
    picture = result.locator("img")
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("picture => picture.naturalWidth > 0")
    assert page.run(UNDER_THE_BOXES)
    page.look_at(node)  # from afar, pages show no boxes
    expect(page.tab.locator(".eraseanything-name:visible")).to_have_text(
        ["Erase Prompts", "Keep Prompts"]
    )
    *_, last = server.get("/history").values()
    train, report = (
        next(each for each in last["prompt"][2].values() if each["class_type"] == kind)["inputs"]
        for kind in ("EraseAnythingTrain", "EraseAnythingReport")
    )
    assert {name: {**report, **train}[name] for name in CHOSEN} == CHOSEN
    assert report["resolution"] == train["resolution"] and report["seed"] == train["seed"]
    shown = [each["text"][0] for each in last["outputs"].values() if "text" in each]
    assert [text.split()[0] for text in sorted(shown)] == ["Saved", "to"]
    assert any("  a red ring" in text and "to keep: pixels differ by" in text for text in shown)
