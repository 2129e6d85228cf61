"""Each workflow, opened from the template browser as an artist opens it, and queued.

Those of `test_tasks` are run there.
"""

from __future__ import annotations

from collections.abc import Iterator

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
