"""Servers and a browser for the tests that look at the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from comfy_page import chromium
from comfy_server import Server, comfy_server
from playwright.sync_api import Browser
from setup import NEWEST_PAGE, comfyui_path
from visits import Visit, visits

# The page that the oldest host brings, and one of the newest published.
FRONTENDS = ("pinned", "newest")
NEWEST = ("--front-end-root", str(NEWEST_PAGE))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test of the page runs on the pinned frontend; one marked so, on the newest and on both.

    The pinned one of two is left to `make test-all`.
    """
    if "server" not in metafunc.fixturenames:
        return
    pinned, newest = FRONTENDS
    names: list[Any] = [pinned]
    if metafunc.definition.get_closest_marker("both_frontends"):
        names = [pytest.param(pinned, marks=pytest.mark.thorough), newest]
    metafunc.parametrize("server", names, indirect=True, scope="session")


@pytest.fixture(scope="session")
def newest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    base = tmp_path_factory.mktemp("newest")
    with comfy_server(comfyui_path(), base, options=NEWEST) as running:
        yield running


@pytest.fixture(scope="session")
def server(request: Any) -> Server:
    return request.getfixturevalue("comfyui" if request.param == "pinned" else request.param)


@pytest.fixture(scope="package")
def browser() -> Iterator[Browser]:
    """Gone before other folders' tests: while Playwright runs, `asyncio.run` is refused."""
    with chromium() as running:
        yield running


@pytest.fixture(scope="package")
def visit(server: Server, browser: Browser) -> Iterator[Visit]:
    with visits(browser, server) as opened:
        yield opened
