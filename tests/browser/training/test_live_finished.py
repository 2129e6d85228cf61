"""The live view of a training that is seen to its end: once for real, then as it was recorded."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from comfy_page import CLASSIC, NODES_2, Page
from playwright.sync_api import Locator, expect
from train_view import (
    TRAIN,
    drawn_share,
    pixels,
    prepare,
    wait_for,
    wait_for_step,
)
from visits import Visit

EVENT = "eraseanything.step"
WHOLE = 12  # steps, of which each takes seconds: a slow browser still sees their middle
MOMENTS = (WHOLE // 6, WHOLE // 3)
EMPTY_SPOT = (1200, 700)  # of the canvas, where neither nodes nor menus lie


@dataclass(frozen=True)
class Finished:
    """A page whose training has ended, and how the curves looked on the way."""

    page: Page
    view: Locator
    events: list[dict[str, Any]]  # what the server has said of the training
    pixels: tuple[str, ...]  # at three steps, the last one among them
    shares: tuple[float, ...]


@pytest.fixture(scope="session")
def recorded() -> list[str]:
    """The server's events of the one real training, as they came."""
    return []


@pytest.fixture(scope="class", params=[CLASSIC, NODES_2], ids=["classic", "nodes_2"])
def finished(request: Any, visit: Visit, recorded: list[str]) -> Iterator[Finished]:
    """The first page trains, the others hear it again."""
    with visit(request.param) as page:
        view = prepare(page, recipe="paper", concept="star", steps=WHOLE)
        moments = list(heard_again(page, view, recorded) if recorded else trained(page, view))
        if not recorded:
            recorded += [text for text in page.received if is_ours(json.loads(text))]
        events = [json.loads(text, parse_constant=refuse)["data"] for text in recorded]
        yield Finished(page, view, events, *zip(*moments, strict=True))


Moment = tuple[str, float]  # the curves' pixels, and how far they reach


def trained(page: Page, view: Locator) -> Iterator[Moment]:
    """A training of the server's, at three moments."""
    page.queue()
    wait_for(view, "training")
    for step in MOMENTS:
        wait_for_step(view, step)
        yield pixels(view), drawn_share(view)
    wait_for(view, "done")
    yield pixels(view), drawn_share(view)


def heard_again(page: Page, view: Locator, recorded: list[str]) -> Iterator[Moment]:
    """The recorded events, come through the page's own socket, at three moments."""
    workflow = page.run("() => app.rootGraph.id")
    moments = iter(MOMENTS)
    awaited = next(moments)
    for text in recorded:
        event = json.loads(text)["data"] | {"workflow": workflow}
        page.say(json.dumps({"type": EVENT, "data": event}))
        if awaited and event["step"] >= awaited and event["state"] == "training":
            wait_for_step(view, awaited)
            yield pixels(view), drawn_share(view)
            awaited = next(moments, 0)
    wait_for(view, "done")
    yield pixels(view), drawn_share(view)


def is_ours(message: dict[str, Any]) -> bool:
    return message["type"] == EVENT


def refuse(word: str) -> None:
    pytest.fail(f"{word} in an event")


@pytest.mark.both_frontends
class TestFinished:
    """What one training, seen to its end, leaves on the node."""

    def test_the_curves_move_to_the_end(self, finished: Finished) -> None:
        assert len(set(finished.pixels)) == 3
        first, second, last = finished.shares
        assert 0 < first < second < 0.95 < last

    def test_it_says_what_it_did(self, finished: Finished) -> None:
        view = finished.view
        assert view.locator(".steps").inner_text() == f"step {WHOLE} of {WHOLE}"
        assert view.locator(".left").inner_text() == ""
        assert view.locator(".message").inner_text().startswith("Saved as EraseAnything/star_")
        names = view.locator(".loss .name").all_inner_texts()
        assert names == ["erase", "attention", "pictures", "contrast"]
        assert all(float(value) for value in view.locator(".loss .value").all_inner_texts())
        assert f"step {WHOLE} of {WHOLE}" in (view.get_attribute("aria-label") or "")

    def test_previews_show_both_prompts_before_and_after_and_the_replacement(
        self, finished: Finished
    ) -> None:
        view = finished.view
        assert view.locator(".role").all_inner_texts() == ["to erase", "to keep"]
        now = ["before", f"step {WHOLE}"]
        assert view.locator(".when").all_inner_texts() == [*now, "replacement", *now]
        images = view.locator("img")
        assert images.evaluate_all("all => all.map(one => one.naturalWidth)") == [64] * 5
        descriptions = images.evaluate_all("all => all.map(one => one.alt)")
        assert ["star" in each for each in descriptions] == [True, True, False, False, False]

    def test_nothing_hangs_out_of_the_node(self, finished: Finished) -> None:
        finished.page.look_at(TRAIN)
        finished.page.tab.wait_for_timeout(500)
        node, box = finished.page.box_of(TRAIN), finished.view.bounding_box()
        assert box and box["y"] + box["height"] <= node["y"] + node["height"]
        for part in finished.view.locator(".body > :visible").all():
            inner = part.bounding_box()
            assert inner and inner["y"] + inner["height"] <= box["y"] + box["height"] + 1

    def test_every_event_was_strict_json(self, finished: Finished) -> None:
        states = [event["state"] for event in finished.events]
        assert [states[0], states[-1]] == ["starting", "done"]
        assert {event["node"] for event in finished.events} == {TRAIN}

    def test_the_keyboard_walks_along_the_curves(self, finished: Finished) -> None:
        value, keyboard = finished.view.locator(".value").first, finished.page.tab.keyboard
        last = value.inner_text()
        finished.view.focus()
        keyboard.press("ArrowLeft")
        before = value.inner_text()
        keyboard.press("Home")
        assert len({last, before, value.inner_text()}) == 3
        keyboard.press("Escape")
        assert value.inner_text() == last

    @pytest.mark.parametrize("theme", ["light", "dark"])
    def test_colours_stand_out_in_every_theme(self, finished: Finished, theme: str) -> None:
        setting = "theme => app.extensionManager.setting.set('Comfy.ColorPalette', theme)"
        finished.page.run(setting, theme)
        finished.page.tab.wait_for_timeout(500)
        text, *curves = finished.view.evaluate(CONTRASTS)
        assert text > 4.5 and len(curves) == 4 and min(curves) > 3

    def test_it_is_there_at_any_zoom_and_lets_the_wheel_through(self, finished: Finished) -> None:
        page, view = finished.page, finished.view
        for zoom in (0.3, 1.5):
            page.look_at(TRAIN, zoom=zoom)
            expect(view).to_be_visible()
        scales = []
        for over_view in (True, False):
            page.look_at(TRAIN, zoom=0.8)
            page.tab.wait_for_timeout(500)
            box = view.bounding_box()
            assert box is not None
            spot = (box["x"] + 20, box["y"] + 10) if over_view else EMPTY_SPOT
            page.tab.mouse.move(*spot)
            page.tab.mouse.wheel(0, -100)
            page.tab.wait_for_function("() => app.canvas.ds.scale > 0.8")
            scales.append(page.run("() => app.canvas.ds.scale"))
        assert scales[0] == scales[1]  # one turn, one step


@pytest.mark.both_frontends
def test_a_node_gives_back_the_room_that_its_view_took(visit: Visit) -> None:
    """Not the room that a person gave it, nor a line."""
    with visit(CLASSIC) as page:
        view = prepare(page)
        run = {"node": TRAIN, "workflow": "", "step": 1, "total": 1, "seconds_left": None}
        run |= {"steps": [], "losses": {}, "previews": None}
        heights = []
        for started, (state, message, spare) in enumerate(
            [
                ("failed", "Short.", 0),
                ("failed", "Short.\nTwo.", None),
                ("failed", "Short.", None),
                ("done", "Long.\n" * 12, None),
                ("failed", "Short.", None),
                ("done", "Long.\n" * 12, 400),
                ("failed", "Short.", None),
            ]
        ):
            if spare is not None:
                page.run(RESIZE, [TRAIN, spare])
            event = {**run, "state": state, "message": message, "started": started + 1}
            page.say(json.dumps({"type": EVENT, "data": event}))
            expect(view.locator(".message")).to_have_text(message.strip())
            page.tab.wait_for_timeout(500)  # for the page to draw
            heights.append(page.run("id => app.rootGraph.getNodeById(id).size[1]", TRAIN))
        short, line, line_less, tall, short_again, *roomy = heights
        assert short < line == line_less  # one line moves no edge
        assert tall > short + 100 and short_again < short + 30
        assert roomy[0] == roomy[1] > tall


RESIZE = """([id, spare]) => {
    const node = app.rootGraph.getNodeById(id);
    node.setSize([node.size[0], node.computeSize()[1] + spare]);
}"""

# How far the text, then each curve, stands out from the ground: WCAG's ratio.
CONTRASTS = """view => {
    const channel = part => (part /= 255) <= 0.04 ? part / 12.9 : ((part + 0.055) / 1.055) ** 2.4;
    const light = color => {
        const [r, g, b] = color.match(/[0-9.]+/g).map(Number).map(channel);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ground = light(getComputedStyle(view).backgroundColor);
    return [view, ...view.querySelectorAll(".sign")].map((each, at) => {
        const own = light(getComputedStyle(each)[at ? "borderTopColor" : "color"]);
        return (Math.max(own, ground) + 0.05) / (Math.min(own, ground) + 0.05);
    });
}"""
