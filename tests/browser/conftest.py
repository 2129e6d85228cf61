"""A server and a browser for each module that looks at the page."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from comfy_page import chromium
from comfy_server import Server, comfy_server
from playwright.sync_api import Browser
from setup import comfyui_path


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "1")  # the page needs a processor too
        with comfy_server(comfyui_path(), tmp_path_factory.mktemp("comfyui")) as running:
            yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as running:
        yield running
