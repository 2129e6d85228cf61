"""The help page of every node, opened as an artist opens it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from comfy_page import Page
from comfy_server import PACK
from playwright.sync_api import expect
from visits import Visit

pytestmark = pytest.mark.both_frontends

NODES = sorted(page.stem for page in (PACK / "web" / "docs").glob("*.md"))
# The page first asks for a help page in the user's language, and for this one when there is none.
LANGUAGE = "/en.md"


@pytest.fixture(scope="module")
def page(visit: Visit) -> Iterator[Page]:
    with visit() as opened:
        yield opened
        opened.troubles = [each for each in opened.troubles if LANGUAGE not in each]


@pytest.mark.parametrize("node", NODES)
def test_it_begins_with_the_nodes_name_and_picture(page: Page, node: str) -> None:
    title = page.run(
        """kind => {
            app.rootGraph.clear();
            const node = LiteGraph.createNode(kind);
            node.pos = [400, 300]; // away from the page's own bars
            app.rootGraph.add(node);
            app.canvas.selectNode(node);
            return node.title;
        }""",
        node,
    )
    page.tab.get_by_test_id("info-button").click()
    help_page = page.tab.locator(".node-help-content")
    expect(help_page.get_by_role("heading", level=1)).to_have_text(title)
    picture = help_page.get_by_role("img").first
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("img => img.naturalWidth") > 200
    assert node in picture.get_attribute("src")
