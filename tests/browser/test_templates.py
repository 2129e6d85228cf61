"""Each workflow, opened from the template browser as an artist opens it, and queued.

Those of `test_tasks` are run there.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from comfy_page import Page
from template_runs import TEMPLATES, run_template
from visits import Visit

pytestmark = pytest.mark.both_frontends

OF_TASKS = {
    "apply_strengths",
    "check_erasure",
    "erase_logo",
    "erase_object",
    "erase_person",
    "erase_style",
    "several_concepts",
}
ROOT = Path(__file__).parents[2]
DROP = """([name, content]) => {
    const bytes = Uint8Array.from(atob(content), letter => letter.charCodeAt(0));
    return app.handleFile(new File([bytes], name, { type: "image/png" }));
}"""


@pytest.fixture(scope="module")
def page(visit: Visit) -> Iterator[Page]:
    """One visit, with the renderer that this frontend begins with."""
    with visit() as opened:
        yield opened


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.thorough] * (name == "erase_artist"))  # as the person
        for name in sorted(set(TEMPLATES) - OF_TASKS)
    ],
)
def test_a_workflow_is_opened_and_runs(page: Page, name: str) -> None:
    run_template(page, name)


@pytest.mark.parametrize("name", ["before_after.png", "attention.png"])
def test_a_picture_of_the_docs_opens_its_workflow(page: Page, name: str) -> None:
    file = ROOT / "docs" / name
    page.run("() => app.rootGraph.clear()")
    page.run(DROP, [name, base64.b64encode(file.read_bytes()).decode()])
    workflow = json.loads((ROOT / "example_workflows" / "erase_object.json").read_text("utf-8"))
    wanted = sorted(node["type"] for node in workflow["nodes"])
    page.tab.wait_for_function("count => app.rootGraph.nodes.length === count", arg=len(wanted))
    assert sorted(page.run("() => app.rootGraph.nodes.map(node => node.type)")) == wanted
