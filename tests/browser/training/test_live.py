"""The live view in ComfyUI's own page: a real server, a real browser, real trainings."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from comfy_page import CLASSIC, NODES_2, Page, open_page
from comfy_server import PACK_NAME, Server
from playwright.sync_api import Browser, expect
from playwright.sync_api import Page as Tab
from train_view import (
    TRAIN,
    drawn_share,
    open_workflow,
    prepare,
    step_of,
    wait_for,
    wait_for_step,
)
from visits import Visit

LONG, MOST = 2000, 3000  # steps that no test waits for; of a phrase half as many again
SHAPE = "%3Csvg xmlns='http://www.w3.org/2000/svg' width='512' height='512'/%3E"
LARGE = f"data:image/svg+xml,{SHAPE}"


@pytest.fixture
def settings() -> dict[str, Any]:
    return CLASSIC


@pytest.fixture
def page(visit: Visit, settings: dict[str, Any]) -> Iterator[Page]:
    """The page, where a test may leave a training running, but no trouble."""
    with visit(settings) as opened:
        yield opened


both_renderers = pytest.mark.parametrize(
    "settings", [CLASSIC, NODES_2], ids=["classic", "nodes_2"], indirect=False
)


# With Nodes 2.0 its two reloads are left to `make test-all`: maps, restored alike, have one there.
@pytest.mark.both_frontends
@pytest.mark.parametrize(
    "settings",
    [CLASSIC, pytest.param(NODES_2, marks=pytest.mark.thorough)],
    ids=["classic", "nodes_2"],
)
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
        rf"Cancelled in step \d+ of {MOST}\. Saved so far as .*; press Run to go on\.", message
    )


@pytest.mark.both_frontends
def test_two_nodes_show_their_own_trainings(page: Page) -> None:
    prepare(page, steps=1)
    page.run(
        """id => {
            const node = app.rootGraph.getNodeById(id);
            const twin = node.clone();
            app.rootGraph.add(twin);
            twin.pos = [node.pos[0] + 450, node.pos[1]];
            const flux = app.rootGraph.nodes.find(each => each.type.endsWith("TinyFlux"));
            flux.connect(0, twin, 0);
            flux.connect(1, twin, 1);
            twin.widgets.find(widget => widget.name === "steps").value = 2;
        }""",
        TRAIN,
    )
    first, second = page.views().first, page.views().nth(1)
    page.queue()
    wait_for(first, "done")
    wait_for(second, "done")
    counts = sorted(each.locator(".steps").inner_text() for each in (first, second))
    assert counts == ["step 2 of 2", "step 3 of 3"]
    assert first.locator("img").count() + second.locator("img").count() == 5  # one has no VAE


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
    expect(page.views()).to_have_count(1)  # the subgraph's own
    page.open_subgraph(path.split(":")[0])
    page.look_at(path.split(":")[1])
    page.queue()
    view = page.views().first
    wait_for(view, "training")
    wait_for_step(view, 2)
    assert drawn_share(view) > 0
    page.cancel()
    wait_for(view, "cancelled")


@pytest.mark.both_frontends
def test_a_saved_file_is_in_the_lists_and_one_that_is_gone_is_made_again(
    page: Page, server: Server
) -> None:
    view = prepare(page, recipe="instant", concept="star", file_name="lists/star")
    page.run("() => { app.rootGraph.add(LiteGraph.createNode('EraseAnythingApply')); }")
    page.queue()
    assert page.end_of_run() == "execution_success"  # else a later run would be taken for this one
    wait_for(view, "done")
    name = "lists/star_00001.safetensors"
    assert view.locator(".message").inner_text().startswith(f"Saved as {name}.")
    lists = """name => {
        app.rootGraph.add(LiteGraph.createNode("EraseAnythingApply"));
        const files = app.rootGraph.nodes.flatMap(node => node.widgets ?? [])
            .filter(widget => /^file(_\\d)?$/.test(widget.name));
        return files.map(widget => widget.options.values.includes(name));
    }"""
    page.tab.wait_for_function(f"name => (({lists})(name)).every(Boolean)", arg=name)
    file = server.base / "models" / "loras" / name
    page.keep_only("EraseAnythingTinyFlux", "EraseAnythingTrain")
    for made_again in (False, True):
        if made_again:
            file.unlink()
        page.queue()
        assert page.end_of_run() == "execution_success"
        events = [text for text in page.received if "eraseanything.step" in text]
        assert bool(events) == made_again and file.is_file()
    file.unlink()


def test_another_workflows_node_shows_nothing(page: Page) -> None:
    """Ids are small numbers: a node of the same id in another workflow is another node."""
    view = prepare(page, steps=LONG)
    page.queue()
    wait_for(view, "training")
    page.run("() => app.loadGraphData({ ...app.rootGraph.serialize(), id: crypto.randomUUID() })")
    page.tab.wait_for_timeout(1500)
    wait_for(page.views().first, "idle")


def test_another_device_with_the_workflow_open_shows_it_too(
    page: Page, server: Server, browser: Browser
) -> None:
    """What came before it was opened, what comes then, and how it ends."""
    view = prepare(page, steps=LONG)
    page.queue()
    wait_for_step(view, 5)
    with open_page(browser, server) as phone:
        phone.load(page.run("() => app.rootGraph.serialize()"))
        phone.look_at(TRAIN)
        other = phone.views().first
        wait_for_step(other, 5)
        assert other.locator("img").count() == 5  # of the last preview
        wait_for_step(other, step_of(view) + 2)
        page.cancel()
        wait_for(other, "cancelled")
        assert phone.own_troubles() == []


def test_a_finished_curve_comes_back_without_a_training(page: Page, server: Server) -> None:
    """With the node's output, as the cache and the history keep it."""
    for visit in ("trains", "finds it in the cache", "opens the history"):
        view = prepare(page, steps=2, seed=11)  # a workflow that has shown nothing yet
        if visit == "opens the history":
            *_, last = server.get("/history").values()
            page.received.clear()
            page.run("outputs => { app.nodeOutputs = outputs; }", last["outputs"])
        else:
            page.queue()
        wait_for(view, "done")
        assert step_of(view) == 3 and view.locator("img").count() == 5, visit
        if visit != "opens the history":
            # An output that comes later would be the next workflow's, on the pinned frontend.
            assert page.end_of_run() == "execution_success", visit
        events = [text for text in page.received if "eraseanything.step" in text]
        assert bool(events) == (visit == "trains")


@pytest.mark.parametrize(
    ("recipe", "now", "losses"),
    [("instant", "solved", []), ("fast", "step 20", ["erase", "holds"])],
)
def test_a_recipe_that_solves_shows_it(
    page: Page, recipe: str, now: str, losses: list[str]
) -> None:
    view = prepare(page, recipe=recipe, concept="star", steps=20)
    page.queue()
    if losses:
        hardening = view.and_(page.tab.locator("[data-state=hardening]"))
        hardening.locator(".state", has_text="Closing ways around it").wait_for()
    wait_for(view, "done")
    assert view.locator(".loss .name").all_inner_texts() == losses
    whens = ["before", now, "replacement", "before", now]
    assert view.locator(".when").all_inner_texts() == whens
    said = view.locator(".message").inner_text()
    assert ("It is soft" in said) == (recipe == "instant")


def test_a_node_is_no_taller_where_its_style_sheets_come_late(page: Page) -> None:
    """Bare pictures would stand one above the other, and a node that has grown does not shrink."""
    heights, held = [], []

    def hold(route: Any) -> None:
        held.append(route)

    for late in (False, True):
        if late:
            page.tab.route("**/live.css*", hold)
        open_workflow(page)
        view = page.tab.locator(".eraseanything-live").first
        prompt = {"role": "concept", "prompt": "a star", "before": LARGE, "after": LARGE}
        previews = {"step": 2, "prompts": [{**prompt, "change": 0.1}] * 2}
        run = {"node": TRAIN, "workflow": "", "started": 1, "state": "done", "message": ""}
        numbers = {"step": 2, "total": 2, "seconds_left": None, "steps": [], "losses": {}}
        event = {**run, **numbers, "previews": previews}
        page.say(json.dumps({"type": "eraseanything.step", "data": event}))
        wait_for(view, "done")
        page.tab.wait_for_timeout(500)  # for the page to draw, with styles or without
        assert bool(held) == late
        for route in held:
            route.continue_()
        expect(view.locator(".pair").first).to_have_css("display", "grid")
        page.tab.wait_for_timeout(500)
        heights.append(page.run("id => app.rootGraph.getNodeById(id).size[1]", TRAIN))
    page.tab.unroute("**/live.css*")
    sheets = view.locator("link").evaluate_all("each => each.map(({ href }) => href)")
    assert [sheet.rpartition("/")[2] for sheet in sheets] == ["page.css", "live.css"]
    assert heights[0] == heights[1]


HTML = "<img src=x onerror='window.hacked = 1'><script>window.hacked = 1</script>"


def test_texts_are_never_html(page: Page) -> None:
    prompt = f"a red star {HTML}"
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


def without_our_nodes(route: Any) -> None:
    nodes = route.fetch().json()
    kept = {name: node for name, node in nodes.items() if "EraseAnything" not in name}
    route.fulfill(json=kept)


def test_without_the_backend_nothing_happens(server: Server, browser: Browser) -> None:
    """The scripts may be there alone: from a cache, or where the pack failed to load."""
    asked: list[str] = []

    def before(tab: Tab) -> None:
        tab.route("**/object_info", without_our_nodes)
        tab.on("request", lambda request: asked.append(request.url))

    with open_page(browser, server, before=before) as page:
        loaded = "() => app.extensions.some(each => each.name === 'eraseanything.live')"
        assert page.run(loaded)
        page.run("() => app.loadGraphData()")
        assert page.views().count() == 0
        assert [url for url in asked if "/eraseanything/" in url] == []
        assert page.own_troubles() == []


def test_the_scripts_are_loaded_once(server: Server) -> None:
    scripts = [path for path in server.get("/extensions") if path.endswith("/live.js")]
    assert scripts == [f"/extensions/{PACK_NAME}/js/live.js"]
