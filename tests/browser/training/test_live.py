"""The live view in ComfyUI's own page: a real server, a real browser, real trainings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from comfy_page import CLASSIC, NODES_2, Page, open_page, write_settings
from comfy_server import PACK, PACK_NAME, Server
from playwright.sync_api import Browser, Locator, expect

WORKFLOW = PACK / "example_workflows" / "erase_object.json"
TRAIN = "3"  # the node's id in the example workflow
KINDS = ("EraseAnythingTinyFlux", "EraseAnythingTrain")
QUICK = {"resolution": 64, "recipe": "paper", "batch": 1, "preview_every": 4}
LONG = 2000  # steps that no test waits for
WHOLE = 48  # steps of the training that is seen to its end: a slow browser still sees its middle
EMPTY_SPOT = (1200, 700)  # of the canvas, where neither nodes nor menus lie
PATIENCE_MS = 300_000

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture
def settings() -> dict[str, Any]:
    return CLASSIC


@pytest.fixture
def page(server: Server, browser: Browser, settings: dict[str, Any]) -> Iterator[Page]:
    """The page, where a test may leave a training running, but no trouble."""
    write_settings(server.base, settings)
    with open_page(browser, server) as opened:
        yield opened
        opened.cancel()
        assert opened.own_troubles() == []


both_renderers = pytest.mark.parametrize(
    "settings", [CLASSIC, NODES_2], ids=["classic", "nodes_2"], indirect=False
)


def prepare(page: Page, *, by_hand: bool = False, **widgets: Any) -> Locator:
    """The example workflow with little to do; the view of its train node."""
    if by_hand:
        page.load_template("erase_object")
    else:
        page.load(json.loads(WORKFLOW.read_text(encoding="utf-8")))
    page.keep_only(*KINDS)
    page.set_widgets(TRAIN, **QUICK, **widgets)
    page.look_at(TRAIN)
    view = page.views().first
    expect(view).to_have_attribute("data-state", "idle")
    return view


def wait_for(view: Locator, state: str) -> None:
    expect(view).to_have_attribute("data-state", state)


def wait_for_step(view: Locator, step: int) -> None:
    """Returns once the view has come to the step; a TimeoutError where it never does."""
    view.page.wait_for_function(
        """([view, step]) => {
            const words = view.querySelector(".steps").textContent.split(" ");
            return Number(words[1]) >= step;
        }""",
        arg=[view.element_handle(), step],
        timeout=PATIENCE_MS,
    )


def step_of(view: Locator) -> int:
    return int(view.locator(".steps").inner_text().split()[1])


def pixels(view: Locator) -> str:
    return view.locator("canvas").evaluate("canvas => canvas.toDataURL()")


def drawn_share(view: Locator) -> float:
    """How far to the right the curves reach, as a share of the canvas's width."""
    return view.locator("canvas").evaluate(
        """canvas => {
            // Above the base line, which always reaches the end.
            const { width, height } = canvas;
            const { data } = canvas.getContext("2d").getImageData(0, 0, width, height * 0.9);
            let last = 0;
            for (let at = 3; at < data.length; at += 4)
                if (data[at]) last = Math.max(last, ((at - 3) / 4) % width);
            return last / width;
        }"""
    )


@dataclass(frozen=True)
class Finished:
    """A page whose training has ended, and how the curves looked on the way."""

    page: Page
    view: Locator
    pixels: tuple[str, ...]  # at three steps, the last one among them
    shares: tuple[float, ...]


@pytest.fixture(scope="class", params=[CLASSIC, NODES_2], ids=["classic", "nodes_2"])
def finished(request: Any, server: Server, browser: Browser) -> Iterator[Finished]:
    """From the template browser to the end."""
    write_settings(server.base, request.param)
    with open_page(browser, server) as page:
        # Another seed each time: the server would not train the same again.
        view = prepare(page, by_hand=True, steps=WHOLE, seed=request.param_index)
        page.queue()
        wait_for(view, "training")
        moments = []
        for step in (WHOLE // 8, WHOLE // 2):
            wait_for_step(view, step)
            moments.append((pixels(view), drawn_share(view)))
        wait_for(view, "done")
        moments.append((pixels(view), drawn_share(view)))
        yield Finished(page, view, *zip(*moments, strict=True))
        assert page.own_troubles() == []


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
        assert names == ["erase", "attention", "keep", "contrast"]
        assert all(float(value) for value in view.locator(".loss .value").all_inner_texts())
        assert f"step {WHOLE} of {WHOLE}" in (view.get_attribute("aria-label") or "")

    def test_previews_show_both_prompts_before_and_after(self, finished: Finished) -> None:
        view = finished.view
        assert view.locator(".role").all_inner_texts() == ["to erase", "to keep"]
        assert view.locator(".when").all_inner_texts() == ["before", f"step {WHOLE}"] * 2
        images = view.locator("img")
        assert images.evaluate_all("all => all.map(one => one.naturalWidth)") == [64] * 4
        descriptions = images.evaluate_all("all => all.map(one => one.alt)")
        assert ["star" in each for each in descriptions] == [True, True, False, False]

    def test_nothing_hangs_out_of_the_node(self, finished: Finished) -> None:
        finished.page.look_at(TRAIN)
        finished.page.tab.wait_for_timeout(500)
        node, box = finished.page.box_of(TRAIN), finished.view.bounding_box()
        assert box and box["y"] + box["height"] <= node["y"] + node["height"]
        for part in finished.view.locator(".body > :visible").all():
            inner = part.bounding_box()
            assert inner and inner["y"] + inner["height"] <= box["y"] + box["height"] + 1

    def test_every_event_was_strict_json(self, finished: Finished) -> None:
        def refuse(word: str) -> None:
            pytest.fail(f"{word} in an event")

        events = [json.loads(text, parse_constant=refuse) for text in finished.page.received]
        ours = [event["data"] for event in events if event["type"] == "eraseanything.step"]
        assert [ours[0]["state"], ours[-1]["state"]] == ["starting", "done"]
        assert {event["node"] for event in ours} == {TRAIN}

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


@pytest.mark.both_frontends
@both_renderers
def test_a_reloaded_page_finds_its_curve_again(page: Page) -> None:
    view = prepare(page, steps=LONG)
    page.tab.wait_for_timeout(1500)  # for the page's own saving of a draft
    page.queue()
    wait_for(view, "training")
    wait_for_step(view, 3)
    seen = step_of(view)
    page.reload()
    page.look_at(TRAIN)
    wait_for_step(view, seen + 1)
    view.focus()
    page.tab.keyboard.press("Home")
    assert view.locator(".value").first.inner_text() != "–"  # from before the reload
    page.cancel()
    wait_for(view, "cancelled")
    page.reload()  # no event will come any more
    wait_for(view, "cancelled")
    assert step_of(view) > seen and drawn_share(view) > 0
    message = view.locator(".message").inner_text()
    assert re.fullmatch(
        rf"Cancelled in step \d+ of {LONG}\. Saved so far as .*; queue again to go on\.", message
    )


@pytest.mark.both_frontends
def test_two_nodes_show_their_own_trainings(page: Page) -> None:
    prepare(page, steps=4)
    page.run(
        """id => {
            const node = app.rootGraph.getNodeById(id);
            const twin = node.clone();
            app.rootGraph.add(twin);
            twin.pos = [node.pos[0] + 450, node.pos[1]];
            const flux = app.rootGraph.nodes.find(each => each.type.endsWith("TinyFlux"));
            flux.connect(0, twin, 0);
            flux.connect(1, twin, 1);
            twin.widgets.find(widget => widget.name === "steps").value = 6;
        }""",
        TRAIN,
    )
    first, second = page.views().first, page.views().nth(1)
    page.queue()
    wait_for(first, "done")
    wait_for(second, "done")
    counts = sorted(each.locator(".steps").inner_text() for each in (first, second))
    assert counts == ["step 4 of 4", "step 6 of 6"]
    assert first.locator("img").count() + second.locator("img").count() == 4  # one has no VAE


@pytest.mark.both_frontends
@both_renderers
def test_inside_a_subgraph(page: Page) -> None:
    prepare(page, steps=LONG)
    path = page.run(
        """id => {
            const node = app.rootGraph.getNodeById(id);
            const { node: outer } = app.rootGraph.convertToSubgraph(new Set([node]));
            return `${outer.id}:${outer.subgraph.nodes[0].id}`;
        }""",
        TRAIN,
    )
    expect(page.views()).to_have_count(0)
    page.open_subgraph(path.split(":")[0])
    page.look_at(path.split(":")[1])
    page.queue()
    view = page.views().first
    wait_for(view, "training")
    wait_for_step(view, 2)
    assert drawn_share(view) > 0
    page.cancel()
    wait_for(view, "cancelled")


def test_another_workflows_node_shows_nothing(page: Page) -> None:
    """Ids are small numbers: a node of the same id in another workflow is another node."""
    view = prepare(page, steps=LONG)
    page.queue()
    wait_for(view, "training")
    page.run("() => app.loadGraphData({ ...app.rootGraph.serialize(), id: crypto.randomUUID() })")
    page.tab.wait_for_timeout(1500)
    wait_for(page.views().first, "idle")


def test_a_finished_curve_comes_back_without_a_training(server: Server, browser: Browser) -> None:
    """With the node's output, as the cache and the history keep it."""
    write_settings(server.base, CLASSIC)
    for visit in ("trains", "finds it in the cache", "opens the history"):
        with open_page(browser, server) as page:
            view = prepare(page, steps=3, seed=11)
            if visit == "opens the history":
                *_, last = server.get("/history").values()
                page.run("outputs => { app.nodeOutputs = outputs; }", last["outputs"])
            else:
                page.queue()
            wait_for(view, "done")
            assert step_of(view) == 3 and view.locator("img").count() == 4, visit
            events = [text for text in page.received if "eraseanything.step" in text]
            assert bool(events) == (visit == "trains")
            assert page.own_troubles() == []


HTML = "<img src=x onerror='window.hacked = 1'><script>window.hacked = 1</script>"


def test_texts_are_never_html(page: Page) -> None:
    prompt = f"a star {HTML}"
    view = prepare(page, steps=1, prompts=prompt)
    page.queue()
    wait_for(view, "done")
    assert view.locator(".prompt").first.inner_text() == prompt
    page.set_widgets(TRAIN, prompts=f"a circle {HTML}")
    page.queue()
    wait_for(view, "failed")
    assert HTML[:30] in view.locator(".message").inner_text()
    assert view.locator("script").count() == 0 and view.locator("img").count() == 0
    assert page.run("() => window.hacked") is None


def test_without_the_backend_nothing_happens(server: Server, browser: Browser) -> None:
    """The scripts may be there alone: from a cache, or where the pack failed to load."""
    write_settings(server.base, CLASSIC)
    asked: list[str] = []
    with open_page(browser, server) as page:

        def without_our_nodes(route: Any) -> None:
            nodes = route.fetch().json()
            kept = {name: node for name, node in nodes.items() if "EraseAnything" not in name}
            route.fulfill(json=kept)

        page.tab.route("**/object_info", without_our_nodes)
        page.tab.on("request", lambda request: asked.append(request.url))
        page.reload()
        loaded = "() => app.extensions.some(each => each.name === 'eraseanything.live')"
        assert page.run(loaded)
        page.run("() => app.loadGraphData()")
        assert page.views().count() == 0
        assert [url for url in asked if "/eraseanything/" in url] == []
        assert page.own_troubles() == []


def test_the_scripts_are_loaded_once(server: Server) -> None:
    scripts = [path for path in server.get("/extensions") if path.endswith("/live.js")]
    assert scripts == [f"/extensions/{PACK_NAME}/js/live.js"]
