"""Erase Concept in ComfyUI's page: the example workflow with little to do, and its live view."""

from __future__ import annotations

import json
import uuid
from typing import Any

from comfy_page import Page
from comfy_server import PACK
from playwright.sync_api import Locator, expect

WORKFLOW = PACK / "example_workflows" / "erase_object.json"
TRAIN = "3"  # the node's id in the example workflow
KINDS = ("EraseAnythingTinyFlux", "EraseAnythingTrain")
# A phrase is trained: its steps can be seen, and take a fifth of those of the recipe paper.
QUICK = {"resolution": 64, "concept": "red star", "batch": 1, "preview_every": 4}
PATIENCE_MS = 120_000

expect.set_options(timeout=PATIENCE_MS)


def prepare(page: Page, **widgets: Any) -> Locator:
    """The example workflow with little to do; the view of its train node."""
    open_workflow(page, **widgets)
    view = page.views().first
    expect(view).to_have_attribute("data-state", "idle")
    return view


def open_workflow(page: Page, **widgets: Any) -> None:
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    page.load(workflow | {"id": str(uuid.uuid4())})  # the page knows no run of it
    page.keep_only(*KINDS)
    page.set_widgets(TRAIN, **{**QUICK, **widgets})
    page.look_at(TRAIN)


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
