"""The workflow files as they lie in the repository: joined as they say, legible, up to date."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "example_workflows").glob("*.json"))
BLUEPRINT = ROOT / "subgraphs" / "Erase and Compare.json"
TITLE = 30  # pixels, above a node's own box
SOCKET = 20  # pixels that one takes
SAMPLED = {"apply_strengths", "erase_object", "look_inside", "your_own_model"}


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
    for number, source, _, target, *_ in workflow["links"]:
        curve = curve_of(workflow, number)
        crossed = {at for at, group in enumerate(groups) if any(in_box(curve, group))}
        assert crossed <= {nodes[source][1], nodes[target][1]}, number


# Others draw by stock samplers, which take more links than can be led around nodes.
@pytest.mark.parametrize("name", [path.stem for path in FILES if path.stem not in SAMPLED])
def test_no_link_runs_behind_a_node(name: str) -> None:
    """It would seem to come out of that node."""
    workflow = json.loads((ROOT / "example_workflows" / f"{name}.json").read_text(encoding="utf-8"))
    boxes = {node["id"]: box_of(node) for node in workflow["nodes"]}
    for number, source, _, target, *_ in workflow["links"]:
        curve = curve_of(workflow, number)
        behind = {at for at, box in boxes.items() if any(in_box(curve, box))}
        assert behind <= {source, target}, number


Curve = list[tuple[float, float]]


def curve_of(workflow: dict[str, Any], link: int) -> Curve:
    """Points of a link as pages draw it: a Bezier curve that leaves and arrives level."""
    nodes = {node["id"]: node for node in workflow["nodes"]}
    source, out, target, into = next(each[1:5] for each in workflow["links"] if each[0] == link)
    (x, y), (width, _) = nodes[source]["pos"], nodes[source]["size"]
    start = x + width, y + SOCKET * (out + 0.7)
    left, top = nodes[target]["pos"]
    end = left, top + SOCKET * (into + 0.7)
    level = math.dist(start, end) / 4
    corners = (start, (start[0] + level, start[1]), (end[0] - level, end[1]), end)
    curve = []
    for part in range(101):
        t = part / 100
        shares = ((1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3)
        weighed = list(zip(shares, corners, strict=True))
        curve.append(tuple(sum(share * at[axis] for share, at in weighed) for axis in (0, 1)))
    return curve


def in_box(curve: Curve, box: Box) -> Iterator[bool]:
    left, top, right, bottom = box
    return (left < x < right and top < y < bottom for x, y in curve)


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
