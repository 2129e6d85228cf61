"""The workflow files as they lie in the repository: joined as they say, legible, up to date."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "example_workflows").glob("*.json"))
BLUEPRINT = ROOT / "subgraphs" / "Erase and Compare.json"
TITLE = 30  # pixels, above a node's own box


@pytest.fixture(params=FILES, ids=lambda path: path.stem)
def workflow(request: pytest.FixtureRequest) -> dict[str, Any]:
    return json.loads(request.param.read_text(encoding="utf-8"))


def test_links_lead_to_the_sockets_they_name(workflow: dict[str, Any]) -> None:
    nodes = {node["id"]: node for node in workflow["nodes"]}
    for number, source, out, target, into, kind in workflow["links"]:
        assert nodes[target]["inputs"][into]["link"] == number
        assert number in nodes[source]["outputs"][out]["links"]
        assert nodes[target]["inputs"][into]["type"] == kind


def test_nodes_do_not_lie_on_each_other(workflow: dict[str, Any]) -> None:
    nodes = workflow["nodes"]
    assert [(a["id"], b["id"]) for a in nodes for b in nodes if a is not b and overlap(a, b)] == []


def overlap(one: dict[str, Any], other: dict[str, Any]) -> bool:
    (x, y), (width, height) = one["pos"], one["size"]
    (left, top), (wide, tall) = other["pos"], other["size"]
    return (
        x < left + wide and left < x + width and y - TITLE < top + tall and top - TITLE < y + height
    )


Box = tuple[float, float, float, float]  # left, top, right, bottom


def box_of(node: dict[str, Any]) -> Box:
    (x, y), (width, height) = node["pos"], node["size"]
    return x, y - TITLE, x + width, y + height


def group_of(node: dict[str, Any], groups: list[Box]) -> int:
    """The number of the one group that a node stands in, whole."""
    left, top, right, bottom = box_of(node)
    (found,) = (
        number
        for number, (west, north, east, south) in enumerate(groups)
        if west <= left and north <= top and right <= east and bottom <= south
    )
    return found


def test_no_link_crosses_a_group_that_is_not_its_own(workflow: dict[str, Any]) -> None:
    corners = [group["bounding"] for group in workflow["groups"]]
    groups = [(x, y, x + width, y + height) for x, y, width, height in corners]
    nodes = {node["id"]: (box_of(node), group_of(node, groups)) for node in workflow["nodes"]}
    for number, source, out, target, into, _ in workflow["links"]:
        (_, top, right, _), own = nodes[source]
        (left, other_top, _, _), others = nodes[target]
        ends = (right, top + TITLE + 20 * out), (left, other_top + TITLE + 20 * into)
        crossed = {at for at, group in enumerate(groups) if any(in_box(ends, group))}
        assert crossed <= {own, others}, number


def in_box(ends: tuple[tuple[float, float], tuple[float, float]], box: Box) -> Iterator[bool]:
    """Whether each of some points of a straight line lies in the box."""
    (x, y), (to_x, to_y) = ends
    left, top, right, bottom = box
    for part in range(101):
        at_x, at_y = (a + (b - a) * part / 100 for a, b in ((x, to_x), (y, to_y)))
        yield left < at_x < right and top < at_y < bottom


@pytest.mark.parametrize("path", [*FILES, BLUEPRINT], ids=lambda path: path.stem)
def test_our_nodes_say_which_pack_to_install(path: Path) -> None:
    """By what the host's own missing-nodes dialog reads."""
    project = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    pack, version = (
        re.search(f'^{key} = "(.*)"$', project, re.MULTILINE) for key in ("name", "version")
    )
    assert pack and version
    whole = json.loads(path.read_text(encoding="utf-8"))
    graphs = [whole, *whole.get("definitions", {}).get("subgraphs", [])]
    ours = [n for graph in graphs for n in graph["nodes"] if n["type"].startswith("EraseAnything")]
    assert ours
    for node in ours:
        found = node["properties"]["cnr_id"], node["properties"]["ver"]
        assert found == (pack[1], version[1]), node["type"]


def test_each_has_a_picture_and_says_what_to_press(workflow: dict[str, Any]) -> None:
    assert len(FILES) == 10 and all(path.with_suffix(".jpg").is_file() for path in FILES)
    notes = [node["widgets_values"][0] for node in workflow["nodes"] if "Note" in node["type"]]
    assert any("Press **Run**" in note for note in notes)
