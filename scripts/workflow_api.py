"""From a workflow as the page saves it to a prompt as the server takes it."""

from __future__ import annotations

from typing import Any

WIDGET_TYPES = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"}
SEED_NAMES = {"seed", "noise_seed"}
NOTES = {"Note", "MarkdownNote"}
ALWAYS = 0  # a node's mode; other modes mute or bypass it


def to_api(workflow: dict[str, Any], object_info: dict[str, Any]) -> dict[str, Any]:
    """The API form of a UI-format workflow: `{node id: {class_type, inputs, _meta}}`.

    Understands what our own workflows are made of: plain nodes, links and notes. Raises ValueError
    for a node that the server lacks, is switched off, or has other widgets than the server's.
    """
    sources = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    nodes = [node for node in workflow["nodes"] if node["type"] not in NOTES]
    return {str(node["id"]): api_node(node, sources, object_info) for node in nodes}


def api_node(
    node: dict[str, Any], sources: dict[int, list[Any]], object_info: dict[str, Any]
) -> dict[str, Any]:
    kind = node["type"]
    if kind not in object_info:
        raise ValueError(f"{place(node)} is no node of this server. Is its pack installed?")
    if node.get("mode", ALWAYS) != ALWAYS:
        raise ValueError(f"{place(node)} is muted or bypassed, expected it on. Delete it.")
    info = object_info[kind]
    linked = {
        socket["name"]: sources[socket["link"]]
        for socket in node.get("inputs", [])
        if socket.get("link") is not None
    }
    title = node.get("title") or info["display_name"] or kind
    inputs = widget_values(node, info) | linked
    return {"class_type": kind, "inputs": inputs, "_meta": {"title": title}}


def widget_values(node: dict[str, Any], info: dict[str, Any]) -> dict[str, Any]:
    """A node's widgets by name."""
    names = widget_names(info)
    values = node.get("widgets_values") or []
    if len(values) != len(names):
        raise ValueError(
            f"{place(node)} holds {len(values)} widget values, expected {len(names)}: "
            f"{', '.join(name or '(control)' for name in names)}. "
            "Open it in the page, look at this node, and save it again."
        )
    return {name: value for name, value in zip(names, values, strict=True) if name}


def widget_names(info: dict[str, Any]) -> list[str | None]:
    """A node's widgets in the page's order; None is a control that only the page knows."""
    names: list[str | None] = []
    for name, spec in inputs_of(info).items():
        if is_widget(spec):
            names.append(name)
            names += [None] * has_seed_control(name, spec)
    return names


def inputs_of(info: dict[str, Any]) -> dict[str, list[Any]]:
    """`{name: [type, options]}`, required ones first, in the order of the schema."""
    return {
        name: info["input"][group][name]
        for group in ("required", "optional")
        for name in info["input_order"].get(group, [])
    }


def is_widget(spec: list[Any]) -> bool:
    """Whether the page draws a widget for this input; a list in place of a type is a combo."""
    kind = spec[0]
    return (isinstance(kind, list) or kind in WIDGET_TYPES) and not options(spec).get("forceInput")


def has_seed_control(name: str, spec: list[Any]) -> bool:
    """Whether the page adds its "control after generate" (fixed, randomize, ...) behind it."""
    default = spec[0] == "INT" and name in SEED_NAMES
    return bool(options(spec).get("control_after_generate", default))


def options(spec: list[Any]) -> dict[str, Any]:
    return spec[1] if len(spec) > 1 else {}


def place(node: dict[str, Any]) -> str:
    return f"Node {node['id']} ({node['type']})"
