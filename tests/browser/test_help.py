"""The help page of every node, opened as an artist opens it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_page import Page
from comfy_server import PACK
from playwright.sync_api import expect
from visits import Visit, open_help

pytestmark = pytest.mark.both_frontends

DOCS = PACK / "web" / "docs"
NODES = sorted(page.stem for page in DOCS.glob("*.md"))
CHINESE = json.loads((PACK / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
SIGNS = ("#", "- ", "1. ", "2. ", "3. ", "|", "![")
# The page first asks for a help page in the user's language, and for this one when there is none.
LANGUAGE = "/en.md"


@pytest.fixture(scope="module")
def page(visit: Visit) -> Iterator[Page]:
    with visit() as opened:
        yield opened
        opened.troubles = [each for each in opened.troubles if LANGUAGE not in each]


@pytest.mark.parametrize("node", NODES)
def test_it_begins_with_the_nodes_name_and_picture(page: Page, node: str) -> None:
    title = open_help(page, node)
    help_page = page.tab.locator(".node-help-content")
    expect(help_page.get_by_role("heading", level=1)).to_have_text(title)
    picture = help_page.get_by_role("img").first
    expect(picture).to_have_js_property("complete", True)
    assert picture.evaluate("img => img.naturalWidth") > 200
    assert node in picture.get_attribute("src")


def shape_of(page: Path) -> dict[str, int]:
    """How many headings, points, rows of tables and pictures a help page has."""
    lines = page.read_text(encoding="utf-8").splitlines()
    return {sign: sum(line.lstrip().startswith(sign) for line in lines) for sign in SIGNS}


@pytest.mark.parametrize("node", NODES)
def test_it_is_there_in_chinese_and_built_alike(node: str) -> None:
    english, chinese = DOCS / f"{node}.md", DOCS / node / "zh.md"
    assert shape_of(chinese) == shape_of(english)
    title = chinese.read_text(encoding="utf-8").splitlines()[0]
    assert title == f"# {CHINESE[node]['display_name']}"
