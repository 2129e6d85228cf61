"""Nodes and the subgraph in Chinese, on a page that starts in it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from comfy_page import CLASSIC, Page, open_page, write_settings
from comfy_server import PACK, Server
from playwright.sync_api import Browser, expect

WORDS = json.loads((PACK / "locales" / "zh" / "nodeDefs.json").read_text(encoding="utf-8"))
SUBGRAPH = "Erase and Compare"
OF_SUBGRAPH = {
    "EraseAnythingTrain": "model clip vae concept kind replace_with resolution steps seed",
    "EraseAnythingReport": "erase_prompts keep_prompts",
}
NAMES = {
    each: WORDS[kind]["inputs"][each]["name"]
    for kind, some in OF_SUBGRAPH.items()
    for each in some.split()
}

LABELLED = "name => app.rootGraph.nodes[0]?.inputs.some(({ label }) => label === name)"


@pytest.fixture(scope="module")
def page(browser: Browser, server: Server) -> Iterator[Page]:
    write_settings(server.base, {**CLASSIC, "Comfy.Locale": "zh"})
    try:
        with open_page(browser, server) as page:
            page.run("() => app.rootGraph.clear()")
            yield page
            assert page.own_troubles() == []
    finally:
        write_settings(server.base, {})


def shown(page: Page, kind: str) -> tuple[str, str, dict[str, str], dict[str, str]]:
    """A new node's title, and what it says of itself; labels of its inputs, and what they say."""
    said = page.run(
        """kind => {
            const node = LiteGraph.createNode(kind);
            app.rootGraph.add(node);
            const { description, input } = node.constructor.nodeData;
            const labels = Object.fromEntries([
                ...node.inputs.map(each => [each.name, each.label ?? each.localized_name]),
                ...(node.widgets ?? []).map(each => [each.name, each.label]),
            ]);
            const inputs = Object.entries({ ...input.required, ...input.optional });
            const said = inputs.map(([id, [, options]]) => [id, options.tooltip]);
            app.rootGraph.remove(node);
            return [node.title, description, labels, Object.fromEntries(said)];
        }""",
        kind,
    )
    return tuple(said)


@pytest.mark.parametrize("kind", list(WORDS))
def test_a_node_is_in_chinese(page: Page, kind: str) -> None:
    words = WORDS[kind]
    title, description, labels, tooltips = shown(page, kind)
    assert (title, description) == (words["display_name"], words["description"])
    assert {id: labels[id] for id in words["inputs"]} == {
        id: each["name"] for id, each in words["inputs"].items()
    }
    assert tooltips == {id: each["tooltip"] for id, each in words["inputs"].items()}


@pytest.mark.both_frontends
def test_the_subgraph_is_in_chinese_and_what_a_person_named_stays(page: Page) -> None:
    page.add_from_library(SUBGRAPH)
    page.tab.wait_for_function(LABELLED, arg=NAMES["model"])
    assert labels_of(page) == NAMES
    page.look_at(page.run("() => String(app.rootGraph.nodes[0].id)"))
    expect(page.tab.locator(".eraseanything-name:visible")).to_have_text(
        [NAMES["erase_prompts"], NAMES["keep_prompts"]]
    )
    blueprint = PACK / "subgraphs" / f"{SUBGRAPH}.json"
    saved: dict[str, Any] = json.loads(blueprint.read_text(encoding="utf-8"))
    for each in (saved["nodes"][0], saved["definitions"]["subgraphs"][0]):
        for one in each["inputs"]:
            one["label"] = {"concept": "mine"}.get(one["name"], one["label"])
    page.load(saved)
    page.tab.wait_for_function(LABELLED, arg="mine")
    page.tab.wait_for_function(LABELLED, arg=NAMES["model"])
    assert labels_of(page) == {**NAMES, "concept": "mine"}


def labels_of(page: Page) -> dict[str, str]:
    """Of the sockets of the subgraph on the canvas, and of its widgets."""
    return page.run(
        """() => {
            const { inputs, widgets } = app.rootGraph.nodes[0];
            const ours = widgets.filter(({ name }) => !name.startsWith("eraseanything_"));
            return Object.fromEntries([...inputs, ...ours].map(({ name, label }) => [name, label]));
        }"""
    )
