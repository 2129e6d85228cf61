"""A sampler of the host's, watched: what was seen stands on Watched Attention, in the page."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from comfy_page import CLASSIC, NODES_2, Page
from comfy_server import PACK
from playwright.sync_api import Locator, expect
from visits import Visit

WORKFLOW = PACK / "example_workflows" / "look_inside.json"
WATCHED = "EraseAnythingWatched"
KINDS = (
    *("EraseAnythingTinyFlux", "EraseAnythingWatch", WATCHED),
    *("KSampler", "CLIPTextEncode", "EmptySD3LatentImage"),
)
PATIENCE_MS = 90_000

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(params=[CLASSIC, NODES_2], ids=["classic", "nodes_2"])
def page(request: Any, visit: Visit) -> Iterator[Page]:
    """Two samplers of one model, watched, without the training between them."""
    with visit(request.param) as opened:
        workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
        opened.load(workflow | {"id": str(uuid.uuid4())})
        opened.keep_only(*KINDS)
        opened.run(
            """() => {
                const watch = app.rootGraph.nodes.find(each => each.type === "EraseAnythingWatch");
                for (const node of app.rootGraph.nodes) {
                    if (node.type === "KSampler") watch.connect(0, node, "model");
                }
            }"""
        )
        yield opened


def pixels(view: Locator) -> list[str]:
    """What each tile shows."""
    tiles = view.locator("canvas")
    return tiles.evaluate_all("all => all.map(canvas => canvas.toDataURL())")


def test_what_samplers_draw_is_seen(page: Page) -> None:
    node = page.id_of(WATCHED)
    view = page.tab.locator(".eraseanything-maps:visible").first
    page.look_at(node)
    page.queue()
    figures = view.locator(".figures")
    expect(figures).to_contain_text("; picture 1 of 2")
    assert view.locator(".chip").all_inner_texts() == ["red star", "background"]
    assert view.locator("figcaption").all_inner_texts() == ["before", "after", "difference"]
    expect(view).to_have_attribute("data-state", "done")  # atlases and pictures are read
    first = pixels(view)
    assert first[0] == first[1]  # both samplers have the same model
    page.set_widgets(node, picture=2)
    page.queue()
    expect(figures).to_contain_text("; picture 2 of 2")
    expect(view).to_have_attribute("data-state", "done")
    assert pixels(view)[0] != first[0]
