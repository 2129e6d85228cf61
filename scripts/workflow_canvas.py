"""Draws a workflow in the form the page saves: nodes in columns, links, widgets, groups."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from workflow_api import has_seed_control, inputs_of, is_widget, options

TITLE, ROW, WIDGET, TEXT_BOX = 30, 20, 24, 110  # heights on the page, in pixels
GAP, COLUMN_GAP, GROUP_MARGIN, GROUP_GAP = 40, 90, 30, 150
GROUP_COLOURS = ("#3f789e", "#8a8", "#b58b2a", "#a1309b")


@dataclass(frozen=True)
class Output:
    """One output of a placed node, to be given as an input of another."""

    node: Node
    slot: int


@dataclass
class Node:
    """A placed node, in the page's own words."""

    data: dict[str, Any]

    def __getitem__(self, name: str) -> Output:
        """The output of that name, or else the first one of that type."""
        outputs = self.data["outputs"]
        for word in ("name", "type"):
            for slot, output in enumerate(outputs):
                if output[word] == name:
                    return Output(self, slot)
        names = [output["name"] for output in outputs]
        raise KeyError(f"{self.data['type']} has no output {name!r}, expected one of {names}.")


@dataclass
class Column:
    """Nodes one below the other, all as wide as the column."""

    canvas: Canvas
    left: int
    top: int
    width: int
    bottom: int

    def add(self, kind: str, /, *, title: str = "", tall: int = 0, **inputs: Any) -> Node:
        """Places a node below the last one.

        An Output makes a link, any other value sets a widget; widgets not named hold their
        default. `tall` is a height in pixels, if the usual one won't do. Raises KeyError for an
        input the node doesn't have.
        """
        info = self.canvas.object_info[kind]
        node = Node(self._place(kind, tall or height_of(info)))
        if title:
            node.data["title"] = title
        for name in inputs.keys() - inputs_of(info).keys():
            raise KeyError(f"{kind} has no input {name!r}, expected {list(inputs_of(info))}.")
        node.data["inputs"] = list(self._sockets(node, info, inputs))
        node.data["outputs"] = [
            {"name": name, "type": kind_of, "links": []}
            for name, kind_of in zip(info["output_name"], info["output"], strict=True)
        ]
        node.data["widgets_values"] = list(widgets(info, inputs))
        return node

    def note(self, text: str, *, tall: int) -> None:
        """Places a note in Markdown."""
        data = self._place("MarkdownNote", tall)
        data |= {"inputs": [], "outputs": [], "widgets_values": [text]}

    def _place(self, kind: str, height: int) -> dict[str, Any]:
        nodes = self.canvas.nodes
        data: dict[str, Any] = {
            "id": len(nodes) + 1,
            "type": kind,
            "pos": [self.left, self.bottom + TITLE],
            "size": [self.width, height],
            "flags": {},
            "order": len(nodes),
            "mode": 0,
            "properties": {"Node name for S&R": kind},
        }
        nodes.append(data)
        self.bottom += TITLE + height + GAP
        return data

    def _sockets(
        self, node: Node, info: dict[str, Any], inputs: dict[str, Any]
    ) -> Iterator[dict[str, Any]]:
        slot = 0
        for name, spec in inputs_of(info).items():
            source = inputs.get(name)
            if is_widget(spec) and not isinstance(source, Output):
                continue
            socket = {"name": name, "type": type_name(spec), "link": None}
            if is_widget(spec):
                socket["widget"] = {"name": name}
            if isinstance(source, Output):
                socket["link"] = self.canvas.link(source, node, slot, type_name(spec))
            yield socket
            slot += 1


@dataclass
class Canvas:
    """A workflow in the making; `object_info` is the server's own list of nodes."""

    object_info: dict[str, Any]
    nodes: list[dict[str, Any]] = field(default_factory=list)
    links: list[list[Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    left: int = 0
    top: int = 0

    def move_to(self, left: int, top: int) -> None:
        """Where the next column begins."""
        self.left, self.top = left, top

    def column(self, width: int) -> Column:
        """Starts a column; the next one will stand right of it."""
        column = Column(self, self.left, self.top, width, bottom=self.top)
        self.left += width + COLUMN_GAP
        return column

    def link(self, source: Output, target: Node, slot: int, kind: str) -> int:
        """Joins an output to an input slot; returns the link's id."""
        number = len(self.links) + 1
        self.links.append(
            [number, source.node.data["id"], source.slot, target.data["id"], slot, kind]
        )
        source.node.data["outputs"][source.slot]["links"].append(number)
        return number

    def group(self, title: str, *columns: Column) -> tuple[int, int]:
        """A titled frame around columns; returns where its right and its lower neighbour begin."""
        left, right = columns[0].left, columns[-1].left + columns[-1].width
        bottom = max(column.bottom for column in columns) - GAP
        corner = [left - GROUP_MARGIN, columns[0].top - GROUP_MARGIN - TITLE]
        size = [right - corner[0] + GROUP_MARGIN, bottom - corner[1] + GROUP_MARGIN]
        number = len(self.groups)
        colour = GROUP_COLOURS[number % len(GROUP_COLOURS)]
        frame = {"id": number + 1, "title": title, "bounding": corner + size, "color": colour}
        self.groups.append(frame | {"font_size": 24, "flags": {}})
        return right + GROUP_GAP, bottom + GROUP_GAP

    def workflow(self, name: str) -> dict[str, Any]:
        """The whole file; the same description gives the same bytes."""
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"eraseanything/{name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {"ds": {"scale": 0.7, "offset": [100, 160]}},
            "version": 0.4,
        }


def widgets(info: dict[str, Any], inputs: dict[str, Any]) -> Iterator[Any]:
    """A node's widget values in the page's order; seeds stay fixed, so a run can be repeated."""
    for name, spec in inputs_of(info).items():
        if not is_widget(spec):
            continue
        value = inputs.get(name)
        yield default_of(spec) if value is None or isinstance(value, Output) else value
        if has_seed_control(name, spec):
            yield "fixed"


def default_of(spec: list[Any]) -> Any:
    """What the page would put there: the default, else the first choice, else nothing."""
    choices = spec[0] if isinstance(spec[0], list) else options(spec).get("options", [""])
    return options(spec).get("default", choices[0] if choices else "")


def type_name(spec: list[Any]) -> str:
    return "COMBO" if isinstance(spec[0], list) else spec[0]


def height_of(info: dict[str, Any]) -> int:
    """About the height the page gives a node."""
    specs = list(inputs_of(info).values())
    drawn = [spec for spec in specs if is_widget(spec)]
    sockets = max(len(specs) - len(drawn), len(info["output"]))
    boxes = sum(bool(options(spec).get("multiline")) for spec in drawn)
    controls = sum(has_seed_control(name, spec) for name, spec in inputs_of(info).items())
    return ROW * sockets + WIDGET * (len(drawn) - boxes + controls) + TEXT_BOX * boxes + ROW
