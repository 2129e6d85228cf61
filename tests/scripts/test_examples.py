"""The workflow files as they lie in the repository: joined as they say, legible, up to date."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "example_workflows").glob("*.json"))
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


def test_each_has_a_picture_and_says_what_to_press(workflow: dict[str, Any]) -> None:
    assert len(FILES) == 5 and all(path.with_suffix(".jpg").is_file() for path in FILES)
    notes = [node["widgets_values"][0] for node in workflow["nodes"] if "Note" in node["type"]]
    assert any("Press **Run**" in note for note in notes)
