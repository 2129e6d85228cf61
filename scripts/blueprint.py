"""The subgraph blueprint: what stands in it, and how a subgraph is written down."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

from workflow_api import inputs_of, is_widget
from workflow_canvas import Canvas, Node, Output, default_of, type_name
from workflows import CONCEPT, CONCEPT_PROMPT, KEEP_PROMPT, REPORT, TRAINING

NAME = "Erase and Compare"
ABOUT = "Erases a concept, and shows the same seeds before and after."
INPUT, OUTPUT = -10, -20  # ids of the two nodes that stand for a subgraph's edges
EDGE, LINE = 160, 20  # width of such a node, height of a slot on it, in pixels

TRAIN, COMPARE = "EraseAnythingTrain", "EraseAnythingReport"
# What goes in, and which node inside says of what kind it is.
GIVEN = dict.fromkeys(
    ("model", "clip", "vae", "concept", "kind", "replace_with", "resolution", "steps", "seed"),
    TRAIN,
) | dict.fromkeys(("erase_prompts", "keep_prompts"), COMPARE)
SHARED = ("model", "clip", "vae", "resolution", "seed")  # which both nodes take
VALUES = {"concept": CONCEPT, "erase_prompts": CONCEPT_PROMPT, "keep_prompts": KEEP_PROMPT}


def blueprint(object_info: dict[str, Any]) -> dict[str, Any]:
    """The whole file: one node on the canvas, and the subgraph that it stands for."""
    specs = {name: inputs_of(object_info[kind])[name] for name, kind in GIVEN.items()}
    canvas = Canvas(object_info)
    slots = [{"name": n, "type": type_name(spec), "links": []} for n, spec in specs.items()]
    given = Node({"id": INPUT, "type": "the subgraph's input", "outputs": slots})
    results = draw_inside(canvas, given)
    for node in canvas.nodes:
        list_all_inputs(canvas, node)
    subgraph = subgraph_of(canvas, slots, results)
    outside = {
        "id": 1,
        "type": subgraph["id"],
        "title": NAME,
        "pos": [0, 0],
        "size": [420, 560],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [free_input(name, spec) for name, spec in specs.items()],
        "outputs": [{"name": each["name"], "type": each["type"], "links": []} for each in results],
        "properties": {},
        "widgets_values": [
            VALUES.get(name, default_of(spec)) for name, spec in specs.items() if is_widget(spec)
        ],
    }
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [outside],
        "links": [],
        "groups": [],
        "definitions": {"subgraphs": [subgraph]},
        "config": {},
        "extra": {},
        "version": 0.4,
    }


def draw_inside(canvas: Canvas, given: Node) -> list[dict[str, Any]]:
    """A training, and a report on it; returns the slots of what goes out."""
    training, comparing = canvas.column(380), canvas.column(420)
    of_train, of_report = (
        {name: given[name] for name, kind in GIVEN.items() if kind == node or name in SHARED}
        for node in (TRAIN, COMPARE)
    )
    train = training.add(TRAIN, tall=TRAINING, **of_train)
    report = comparing.add(COMPARE, tall=REPORT, erased=train["MODEL"], **of_report)
    out = {
        "MODEL": train["MODEL"],
        "LORA_MODEL": train["LORA_MODEL"],
        "IMAGE": report["IMAGE"],
        "report": report["STRING"],
    }
    return [going_out(canvas, *each, slot) for slot, each in enumerate(out.items())]


def going_out(canvas: Canvas, name: str, output: Output, slot: int) -> dict[str, Any]:
    """Joins an output to the subgraph's own of this name; returns the latter."""
    kind = output.node.data["outputs"][output.slot]["type"]
    link = canvas.link(output, Node({"id": OUTPUT}), slot, kind)
    return {"name": name, "type": kind, "links": [link]}


def list_all_inputs(canvas: Canvas, node: dict[str, Any]) -> None:
    """Gives a node each of its inputs in the page's order: links in a subgraph count on it."""
    linked = {each["name"]: each for each in node["inputs"]}
    specs = inputs_of(canvas.object_info[node["type"]])
    ordered = sorted(specs, key=lambda name: is_widget(specs[name]))  # sockets come first
    node["inputs"] = [linked.get(name) or free_input(name, specs[name]) for name in ordered]
    for slot, each in enumerate(node["inputs"]):
        if each["link"]:
            canvas.links[each["link"] - 1][4] = slot


def subgraph_of(
    canvas: Canvas, slots: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What is drawn on a canvas, as a subgraph with these inputs and outputs."""
    return {
        "id": identity(),
        "version": 1,
        "state": {
            "lastGroupId": 0,
            "lastNodeId": len(canvas.nodes),
            "lastLinkId": len(canvas.links),
            "lastRerouteId": 0,
        },
        "revision": 0,
        "config": {},
        "name": NAME,
        "category": "EraseAnything",
        "description": ABOUT,
        **edge("input", INPUT, -2 * EDGE, slots),
        **edge("output", OUTPUT, canvas.left, results),
        "widgets": [],
        "nodes": canvas.nodes,
        "groups": [],
        "links": [dict(zip(LINK, link, strict=True)) for link in canvas.links],
        "extra": {},
    }


LINK = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")


def edge(side: str, node: int, left: int, slots: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The node that stands for one edge of a subgraph, and its slots."""
    return {
        f"{side}Node": {"id": node, "bounding": [left, 0, EDGE, LINE * (len(slots) + 2)]},
        f"{side}s": [
            {
                "id": identity(f"{side} {slot['name']}"),
                "name": slot["name"],
                "type": slot["type"],
                "linkIds": slot["links"],
                "pos": [left, LINE * (at + 1)],
            }
            for at, slot in enumerate(slots)
        ],
    }


def free_input(name: str, spec: list[Any]) -> dict[str, Any]:
    """An input of a node without a link."""
    widget = {"widget": {"name": name}} if is_widget(spec) else {}
    return {"name": name, "type": type_name(spec), "link": None, **widget}


def identity(part: str = "") -> str:
    """The same each time the file is written."""
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"eraseanything/{NAME}/{part}"))
