"""One page of ComfyUI for many tests: to open it takes longer than most of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

from comfy_page import RENDERER, WAIT_MS, Page, open_page, write_settings
from comfy_server import Server
from playwright.sync_api import Browser

SIDE_PANEL = "Comfy.RightSidePanel.IsOpen"  # of newer pages: help opens it

# `with visit(NODES_2) as page:` is an empty canvas, drawn by this renderer, or by the page's own.
Visit = Callable[..., AbstractContextManager[Page]]


@contextmanager
def visits(browser: Browser, server: Server) -> Iterator[Visit]:
    """Opens a server's page once; every visit begins with an empty one and ends without trouble."""
    write_settings(server.base, {})
    with open_page(browser, server) as page:
        own = {RENDERER: page.run("name => app.extensionManager.setting.get(name)", RENDERER)}

        @contextmanager
        def visit(settings: dict[str, Any] = own) -> Iterator[Page]:
            begin_again(page, settings)
            yield page
            page.cancel()  # what a test may have left running
            assert page.own_troubles() == []

        yield visit


def begin_again(page: Page, settings: dict[str, Any]) -> None:
    """Once nothing runs: no workflow but an empty one, looked at as at first; these settings.

    The page is in English where they name no other language.
    """
    while any(page.server.get("/queue").values()):
        page.tab.wait_for_timeout(WAIT_MS)
    page.run(EMPTY, {SIDE_PANEL: False, "Comfy.Locale": "en", **settings})
    page.troubles.clear()
    page.received.clear()


def open_help(page: Page, node: str) -> str:
    """Puts a node on the canvas and asks for its help; its title."""
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
    return title


EMPTY = """async settings => {
    const { command, setting, sidebarTab, workflow } = app.extensionManager;
    sidebarTab.activeSidebarTabId = null;
    await command.execute("Comfy.NewBlankWorkflow");
    for (const each of [...workflow.openWorkflows])
        if (each !== workflow.activeWorkflow) await workflow.closeWorkflow(each);
    const { loadGraphData } = app;
    const loaded = new Promise(resolve => {
        app.loadGraphData = async function (...given) {
            delete app.loadGraphData;
            await loadGraphData.apply(this, given);
            resolve();
        };
    });
    const language = setting.get("Comfy.Locale");
    for (const [name, value] of Object.entries(settings))
        if (name in setting.settings) await setting.set(name, value);
    // In another language the page loads the workflow in front anew, a little later.
    if (setting.get("Comfy.Locale") !== language) await loaded;
    delete app.loadGraphData;
    app.rootGraph.clear();
    app.canvas.ds.reset();
}"""
