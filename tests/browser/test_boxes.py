"""The names of a node's boxes, which look alike once they are filled."""

from __future__ import annotations

import pytest
from comfy_page import CLASSIC, NODES_2
from visits import Visit

pytestmark = pytest.mark.both_frontends

BOXES = {"synonyms": "pentagram", "keep": "diamond"}

# What stands over each box, by what is in it: a label of the page's own, or ours.
NAMES = """() => Object.fromEntries([...document.querySelectorAll("textarea")]
    .filter(box => box.value && box.checkVisibility())
    .map(box => [box.value, box.parentElement.innerText.trim()]))"""


@pytest.mark.parametrize("renderer", [CLASSIC, NODES_2], ids=["classic", "nodes_2"])
def test_a_filled_box_says_which_it_is(visit: Visit, renderer: dict[str, object]) -> None:
    with visit(renderer) as page:
        page.load_template("erase_object")
        page.keep_only("EraseAnythingTinyFlux", "EraseAnythingTrain")
        node = page.id_of("EraseAnythingTrain")
        page.set_widgets(node, **BOXES)
        page.look_at(node)
        page.tab.wait_for_function(f"() => Object.keys(({NAMES})()).length === 2")
        assert page.run(NAMES) == {"pentagram": "Synonyms", "diamond": "Keep"}
