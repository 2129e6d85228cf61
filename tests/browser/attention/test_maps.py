"""Attention maps in ComfyUI's own page: words to point at, a slider, on one real server."""

from __future__ import annotations

import json
import re
import uuid
from collections.abc import Iterator
from typing import Any

import pytest
from comfy_page import CLASSIC, NODES_2, Page
from comfy_server import PACK, PACK_NAME, Server
from playwright.sync_api import Locator, expect
from visits import Visit

WORKFLOW = PACK / "example_workflows" / "erase_object.json"
KINDS = ("EraseAnythingTinyFlux", "EraseAnythingAttention")
HTML = "<img src=x onerror=window.hacked=1>"
PROMPT = f"a red star on a white background {HTML}"
WORDS = [
    "a",
    "red",
    "star",
    "on",
    "white",
    "background",
    "<img",
    "src=x",
    "onerror=window.hacked=1>",
]
STEPS = 4
PATIENCE_MS = 90_000

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="class", params=[CLASSIC, NODES_2], ids=["classic", "nodes_2"])
def page(request: Any, visit: Visit) -> Iterator[Page]:
    """The attention node alone, with two models, after it has run."""
    with visit(request.param) as opened:
        workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
        opened.load(workflow | {"id": str(uuid.uuid4())})  # the history knows no maps of it
        opened.keep_only(*KINDS)
        node = opened.run(COMPARE_WITH_ITSELF)
        opened.set_widgets(node, prompt=PROMPT, words="", view="saliency", steps=STEPS)
        opened.look_at(node)
        expect(view_of(opened)).to_have_attribute("data-state", "idle")
        opened.tab.wait_for_timeout(1500)  # for the page's own saving of a draft
        opened.queue()
        wait_for_maps(opened)
        yield opened


COMPARE_WITH_ITSELF = """() => {
    const find = kind => app.rootGraph.nodes.find(node => node.type === kind);
    const node = find("EraseAnythingAttention");
    find("EraseAnythingTinyFlux").connect(0, node, "erased");
    return String(node.id);
}"""


def view_of(page: Page) -> Locator:
    return page.tab.locator(".eraseanything-maps:visible").first


def wait_for_maps(page: Page) -> None:
    expect(view_of(page)).to_have_attribute("data-state", "done")  # atlases and pictures are read


def chip(page: Page, word: str) -> Locator:
    return view_of(page).get_by_role("button", name=word, exact=True)


def pixels(page: Page) -> list[str]:
    """What each tile shows."""
    tiles = view_of(page).locator("canvas")
    return tiles.evaluate_all("all => all.map(canvas => canvas.toDataURL())")


@pytest.mark.both_frontends
class TestMaps:
    """One run, explored."""

    def test_every_word_is_a_chip_and_never_html(self, page: Page) -> None:
        view = view_of(page)
        assert view.locator(".chip").all_inner_texts() == WORDS
        assert view.locator("img").count() == 0
        assert page.run("() => window.hacked") is None

    def test_two_models_and_their_difference(self, page: Page) -> None:
        names = view_of(page).locator("figcaption").all_inner_texts()
        assert names == ["before", "after", "difference"]
        before, after, _ = pixels(page)
        assert before == after  # the node compares the model with itself
        flat = view_of(page).locator("canvas").nth(2).evaluate(COLOURS)
        assert flat == ["247,247,247"]
        assert len(view_of(page).locator("canvas").first.evaluate(COLOURS)) > 20

    def test_pointing_shows_a_word_and_clicking_keeps_it(self, page: Page) -> None:
        figures = view_of(page).locator(".figures")
        chip(page, "red").click()
        kept = pixels(page)
        chip(page, "star").hover()
        against = r"^star: before [\d.]+%, after [\d.]+% \(saliency, against a, on, white, "
        expect(figures).to_have_text(re.compile(against))
        assert pixels(page) != kept
        page.tab.mouse.move(0, 0)
        expect(figures).to_have_text(re.compile("^red: "))
        assert pixels(page) == kept
        assert chip(page, "red").get_attribute("aria-pressed") == "true"
        assert chip(page, "star").get_attribute("aria-pressed") == "false"

    def test_the_slider_goes_through_the_steps_by_keyboard(self, page: Page) -> None:
        slider, keyboard = view_of(page).get_by_role("slider"), page.tab.keyboard
        seen = []
        slider.focus()
        keyboard.press("Home")
        for step in range(STEPS + 1):
            expected = f"step {step} of {STEPS}" if step else f"all {STEPS} steps"
            assert slider.get_attribute("aria-valuetext") == expected
            assert view_of(page).locator(".step").inner_text() == expected
            seen.append(pixels(page)[0])
            keyboard.press("ArrowRight")
        assert len(set(seen)) == STEPS + 1
        keyboard.press("Home")

    def test_words_are_reached_by_keyboard(self, page: Page) -> None:
        chip(page, "red").focus()
        page.tab.keyboard.press("Tab")
        focused = "() => document.activeElement.textContent"
        assert page.run(focused) == "star"
        page.tab.keyboard.press("Enter")
        assert chip(page, "star").get_attribute("aria-pressed") == "true"
        assert page.run("() => app.rootGraph.nodes.length") == 2  # the canvas heard nothing

    def test_maps_lie_over_the_picture_or_alone(self, page: Page) -> None:
        over = view_of(page).get_by_role("checkbox")
        with_picture = pixels(page)
        over.uncheck()
        alone = pixels(page)
        assert alone[0] != with_picture[0] and alone[2] == with_picture[2]
        over.check()
        assert pixels(page) == with_picture

    def test_nothing_hangs_out_of_the_view(self, page: Page) -> None:
        page.tab.wait_for_timeout(500)
        box = view_of(page).bounding_box()
        assert box
        for part in view_of(page).locator(".body > :visible").all():
            inner = part.bounding_box()
            assert inner and inner["y"] + inner["height"] <= box["y"] + box["height"] + 1

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_words_stand_out_in_every_theme(self, page: Page, theme: str) -> None:
        page.run("theme => app.extensionManager.setting.set('Comfy.ColorPalette', theme)", theme)
        page.tab.wait_for_timeout(500)
        assert min(view_of(page).evaluate(CONTRASTS)) > 4.5

    def test_a_reloaded_page_finds_its_maps_again(self, page: Page) -> None:
        before = view_of(page).locator(".figures").inner_text()
        page.reload()
        wait_for_maps(page)
        chip(page, "star").click()
        assert view_of(page).locator(".figures").inner_text() == before

    def test_inside_a_subgraph(self, page: Page) -> None:
        page.run(
            """() => {
                const node = app.rootGraph.nodes.find(each => each.type.endsWith("Attention"));
                const { node: outer } = app.rootGraph.convertToSubgraph(new Set([node]));
                app.canvas.openSubgraph(outer.subgraph);
                outer.subgraph.nodes[0].widgets.find(each => each.name === "seed").value = 5;
            }"""
        )
        page.look_at(page.run("() => String(app.canvas.graph.nodes[0].id)"))
        page.queue()
        wait_for_maps(page)
        assert view_of(page).locator(".chip").all_inner_texts() == WORDS


# Which colours a canvas shows.
COLOURS = """canvas => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    const found = new Set();
    for (let at = 0; at < data.length; at += 4) found.add(data.slice(at, at + 3).join());
    return [...found];
}"""

# How far the view's text, and each chip's, stands out from its ground: WCAG's ratio.
CONTRASTS = """view => {
    const channel = part => (part /= 255) <= 0.04 ? part / 12.9 : ((part + 0.055) / 1.055) ** 2.4;
    const light = color => {
        const [r, g, b] = color.match(/[0-9.]+/g).map(Number).map(channel);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const own = getComputedStyle(view).backgroundColor;
    return [view, ...view.querySelectorAll(".chip")].map(each => {
        const { color, backgroundColor } = getComputedStyle(each);
        const ground = light(backgroundColor === "rgba(0, 0, 0, 0)" ? own : backgroundColor);
        return (Math.max(light(color), ground) + 0.05) / (Math.min(light(color), ground) + 0.05);
    });
}"""


def test_the_scripts_are_loaded_once(server: Server) -> None:
    scripts = [path for path in server.get("/extensions") if path.endswith("/maps.js")]
    assert scripts == [f"/extensions/{PACK_NAME}/js/maps.js"]
