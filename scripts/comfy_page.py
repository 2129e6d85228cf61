"""ComfyUI's page in a headless Chromium: opened, given a workflow, queued, looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfy_server import Server
from playwright.sync_api import Browser, ConsoleMessage, Locator, sync_playwright
from playwright.sync_api import Page as Tab
from setup import BROWSERS, GET_BROWSER, find_browser

SWITCHES = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    # What the page asks of other machines may hang where there is no network.
    "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
]
ON_CANVAS = (800, 600)
SIZE = {"width": 1400, "height": 1400}  # the train node is a tall one
# Settings of the page: which of its two renderers draws nodes.
RENDERER = "Comfy.VueNodes.Enabled"
CLASSIC, NODES_2 = {RENDERER: False}, {RENDERER: True}
READY_MS, WAIT_MS = 300_000, 200
ENDINGS = ("execution_success", "execution_error", "execution_interrupted")
# What lies over the page of a first start: the offer of Nodes 2.0 and its explanation.
DISMISSED = ("vueNodesBannerDismissed", "comfy.vueNodesMigration.dismissed")
DISMISS = "".join(f"localStorage.setItem('{name}', 'true');" for name in DISMISSED)
Box = dict[str, float]  # x, y, width, height in the window's pixels

OURS = "eraseanything"  # in what the console says of us
NOT_OURS = "api.comfy.org"  # the host asks a registry about every node, which its own rules forbid
# Drawn by the processor alone, a lively canvas would take it away from the training.
QUIET = {"LiteGraph.Canvas.MaximumFps": 10, "Comfy.Minimap.Visible": False}


@contextmanager
def chromium() -> Iterator[Browser]:
    """A running Chromium of this machine; none is ever downloaded. RuntimeError without one."""
    path = find_browser()
    if path is None:
        raise RuntimeError(f"Found none of {', '.join(BROWSERS)}, expected one. {GET_BROWSER}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=SWITCHES)
        try:
            yield browser
        finally:
            browser.close()


def write_settings(base: Path, settings: dict[str, Any]) -> None:
    """The user's settings of a server at `base`; without the first the templates lie open."""
    file = base / "user" / "default" / "comfy.settings.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps({"Comfy.TutorialCompleted": True, **QUIET, **settings}))


@contextmanager
def open_page(
    browser: Browser, server: Server, *, before: Callable[[Tab], object] = lambda tab: None
) -> Iterator[Page]:
    """A fresh visit to the server's page, with the graph empty; `before` sees the empty tab."""
    context = browser.new_context(viewport=SIZE, device_scale_factor=1)  # type: ignore[arg-type]
    context.set_default_timeout(READY_MS)
    context.add_init_script(DISMISS)
    page = Page(context.new_page(), server)
    page.tab.on("console", page.hear)
    page.tab.on("pageerror", lambda error: page.troubles.append(f"uncaught: {error.stack}"))
    page.tab.on("websocket", lambda socket: socket.on("framereceived", page.receive))
    try:
        before(page.tab)
        page.tab.goto(server.url, wait_until="commit")
        page.wait_until_ready()
        yield page
    finally:
        context.close()


@dataclass
class Page:
    """One tab with ComfyUI in it."""

    tab: Tab
    server: Server
    troubles: list[str] = field(default_factory=list)  # the console's errors and warnings
    received: list[str] = field(default_factory=list)  # the server's events, as they came

    def hear(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"{message.type}: {message.text} ({message.location})")

    def receive(self, frame: str | bytes) -> None:
        if isinstance(frame, str):  # bytes are pictures
            self.received.append(frame)

    def own_troubles(self) -> list[str]:
        """Errors and warnings that come from our scripts or name our events."""
        return [each for each in self.troubles if OURS in each.lower() and NOT_OURS not in each]

    def wait_until_ready(self) -> None:
        ready = "() => window.app?.rootGraph && window.app.extensionManager?.command"
        self.tab.wait_for_function(ready)
        self.tab.wait_for_selector("#splash-loader", state="detached")

    def reload(self) -> None:
        self.tab.reload(wait_until="commit")
        self.wait_until_ready()

    def run(self, script: str, argument: Any = None) -> Any:
        """The value of a JavaScript function in the page."""
        return self.tab.evaluate(script, argument)

    def command(self, name: str) -> None:
        """What a menu entry or a shortcut of the page does."""
        self.run("name => app.extensionManager.command.execute(name)", name)

    def load_template(self, name: str) -> None:
        """Opens the template browser, finds our workflow and clicks on it."""
        self.command("Comfy.BrowseTemplates")
        content = self.tab.get_by_test_id("template-workflows-content")
        # Searching before the list has come finds nothing, then and later.
        self.tab.get_by_test_id(re.compile("^template-workflow-")).first.wait_for()
        self.tab.get_by_placeholder(re.compile("Search|搜索")).last.fill(name)
        self.tab.get_by_test_id(f"template-workflow-{name}").click()
        content.wait_for(state="detached")
        self.tab.wait_for_timeout(1000)  # until it has faded, the page would not open another one

    def add_from_library(self, name: str) -> None:
        """Opens the node library, finds a node and puts it on the canvas, which must be empty."""
        self.command("Workspace.ToggleSidebarTab.node-library")
        self.tab.get_by_placeholder(re.compile("Search|搜索")).last.fill(name)
        self.tab.get_by_text(name, exact=True).last.click()
        # Newer pages carry the node to where the mouse clicks next.
        self.tab.wait_for_timeout(500)
        self.tab.mouse.move(*ON_CANVAS, steps=5)
        self.tab.mouse.click(*ON_CANVAS)
        self.tab.wait_for_function("() => app.rootGraph.nodes.length === 1")

    def give_model(self, node: str) -> None:
        """Puts the demo loader on the canvas, joined to what the node needs of a model."""
        self.run(
            """id => {
                const tiny = LiteGraph.createNode("EraseAnythingTinyFlux");
                const node = app.rootGraph.getNodeById(id);
                app.rootGraph.add(tiny);
                ["model", "clip", "vae"].forEach((name, slot) => tiny.connect(slot, node, name));
            }""",
            node,
        )

    def load(self, workflow: dict[str, Any]) -> None:
        """Puts a workflow on the canvas."""
        self.run("workflow => app.loadGraphData(workflow)", workflow)

    def set_widgets(self, node: str, **values: Any) -> None:
        """Sets widgets of the node at a path such as "5" or "12:5"."""
        self.run(
            """([path, values]) => {
                const find = (graph, [id, ...rest]) => {
                    const node = graph.getNodeById(id);
                    return rest.length ? find(node.subgraph, rest) : node;
                };
                const node = find(app.rootGraph, path.split(":"));
                for (const [name, value] of Object.entries(values)) {
                    const widget = node.widgets.find(widget => widget.name === name);
                    widget.value = value;
                    widget.callback?.(value);
                }
            }""",
            [node, values],
        )

    def keep_only(self, *kinds: str) -> None:
        """Takes all other nodes off the canvas."""
        self.run(
            """kinds => [...app.rootGraph.nodes]
                .filter(node => !kinds.includes(node.type))
                .forEach(node => app.rootGraph.remove(node))""",
            kinds,
        )

    def look_at(self, node: str, *, zoom: float = 1.0) -> None:
        """Moves the canvas so that a node of the graph in front stands in its upper left."""
        self.run(
            """([id, zoom]) => {
                const node = app.canvas.graph.getNodeById(id);
                app.canvas.ds.scale = zoom;
                app.canvas.ds.offset = [300 / zoom - node.pos[0], 140 / zoom - node.pos[1]];
                app.canvas.setDirty(true, true);
            }""",
            [node, zoom],
        )

    def open_subgraph(self, node: str) -> None:
        """Goes into a subgraph, as a click on its node does."""
        self.run("id => app.canvas.openSubgraph(app.canvas.graph.getNodeById(id).subgraph)", node)

    def id_of(self, kind: str) -> str:
        """The id of the first node of this class in the graph in front."""
        find = "kind => String(app.canvas.graph.nodes.find(node => node.type === kind).id)"
        return self.run(find, kind)

    def redraw(self) -> None:
        """Draws the canvas again: a node grows as it is drawn."""
        self.run("() => app.canvas.setDirty(true, true)")

    def box_of(self, node: str) -> Box:
        """Where a node of the graph in front lies on the screen, its title included."""
        return self.run(
            """id => {
                const tile = document.querySelector(`[data-node-id="${id}"]`); // of Nodes 2.0
                if (tile) {
                    const { x, y, width, height } = tile.getBoundingClientRect();
                    return { x, y, width, height };
                }
                const { ds, canvas, graph } = app.canvas;
                const [x, y, width, height] = graph.getNodeById(id).boundingRect;
                const { left, top } = canvas.getBoundingClientRect();
                return {
                    x: (x + ds.offset[0]) * ds.scale + left,
                    y: (y + ds.offset[1]) * ds.scale + top,
                    width: width * ds.scale,
                    height: height * ds.scale,
                };
            }""",
            node,
        )

    def queue(self) -> None:
        self.received.clear()
        self.command("Comfy.QueuePrompt")

    def say(self, event: str) -> None:
        """Lets the page hear an event as if the server had sent it: through its own socket."""
        self.run(
            """data => {
                const { socket } = window.comfyAPI.api.api;
                socket.dispatchEvent(new MessageEvent("message", { data }));
            }""",
            event,
        )

    def end_of_run(self, patience_ms: int = READY_MS) -> str:
        """Waits for the event that the run ends with, and names it; "" where none comes."""
        for _ in range(patience_ms // WAIT_MS):
            kinds = [json.loads(text)["type"] for text in self.received]
            if found := next((kind for kind in kinds if kind in ENDINGS), None):
                return found
            self.tab.wait_for_timeout(WAIT_MS)
        return ""

    def cancel(self) -> None:
        self.command("Comfy.Interrupt")

    def views(self) -> Locator:
        """The live views on the page, in the order of their nodes."""
        return self.tab.locator(".eraseanything-live:visible")
