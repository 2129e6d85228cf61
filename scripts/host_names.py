"""Every name that the pack takes from ComfyUI, and what a checkout offers under it.

    python scripts/host_names.py CHECKOUT

imports the checkout and writes scripts/host_names.json: each name, and for what is called its
parameters. A test compares the pack with that list, so that a machine with an old ComfyUI alone
notices what a new one would not have.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
LIST = Path(__file__).with_suffix(".json")
FOLDERS = ("nodes", "erase_engine", "tinyworld")
HOST = ("comfy", "comfy_api", "comfy_execution", "comfy_extras", "comfyui_version", "folder_paths")


@dataclass(frozen=True)
class Use:
    """One place where a host's name is used; `call` is how, where it is called."""

    name: str
    place: str
    call: ast.Call | None


def uses() -> list[Use]:
    """Every use in the pack's own files."""
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    return [use for file in files for use in _uses_in(file)]


def misfits(found: list[Use], offered: dict[str, Any]) -> list[str]:
    """Uses of what is not offered, and calls that what is offered would not take."""
    wrong = []
    for use in found:
        if use.name not in offered:
            wrong.append(f"{use.place}: {use.name} is not there")
        elif use.call and offered[use.name] is not None and not _fits(use.call, offered[use.name]):
            wrong.append(f"{use.place}: {use.name} takes {offered[use.name]}")
    return wrong


def _uses_in(file: Path) -> Iterator[Use]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    known = dict(_imported(tree))
    calls = {id(node.func): node for node in ast.walk(tree) if isinstance(node, ast.Call)}
    inner = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and id(node) not in inner:
            parts = _parts(node)
            if parts and parts[0] in known:
                name = ".".join((known[parts[0]], *parts[1:]))
                place = f"{file.relative_to(ROOT)}:{node.lineno}"
                yield Use(name, place, calls.get(id(node)))


def _imported(tree: ast.AST) -> Iterator[tuple[str, str]]:
    """What a file calls a host's module or name, and its whole name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for one in node.names:
                if one.name.split(".")[0] in HOST:
                    short = one.asname or one.name.split(".")[0]
                    yield short, one.name if one.asname else short
        elif isinstance(node, ast.ImportFrom) and not node.level:
            module = node.module or ""
            if module.split(".")[0] in HOST:
                yield from ((one.asname or one.name, f"{module}.{one.name}") for one in node.names)


def _parts(node: ast.expr) -> tuple[str, ...]:
    """a.b.c as its parts; nothing where it does not begin with a name."""
    if isinstance(node, ast.Name):
        return (node.id,)
    if isinstance(node, ast.Attribute) and (parts := _parts(node.value)):
        return (*parts, node.attr)
    return ()


def _fits(call: ast.Call, parameters: list[str]) -> bool:
    """Whether the parameters take the call, as far as it is written out."""
    keywords = {one.arg: None for one in call.keywords if one.arg}
    spread = any(isinstance(one, ast.Starred) for one in call.args)
    whole = not spread and len(keywords) == len(call.keywords)
    bind = _signature(parameters).bind if whole else _signature(parameters).bind_partial
    try:
        bind(*([] if spread else call.args), **keywords)
    except TypeError:
        return False
    return True


def _signature(parameters: list[str]) -> inspect.Signature:
    """The signature that `_parameters` wrote down."""
    starred = (i for i, one in enumerate(parameters) if one[0] == "*" and one[:2] != "**")
    star = next(starred, len(parameters))
    return inspect.Signature(
        [_parameter(one, after=i > star) for i, one in enumerate(parameters) if one != "*"]
    )


def _parameter(text: str, *, after: bool) -> inspect.Parameter:
    kinds = inspect.Parameter
    kind = kinds.KEYWORD_ONLY if after else kinds.POSITIONAL_OR_KEYWORD
    if text.startswith("*"):
        kind = kinds.VAR_KEYWORD if text.startswith("**") else kinds.VAR_POSITIONAL
    default = None if text.endswith("=") else kinds.empty
    return kinds(text.strip("*="), kind, default=default)


# --- what a checkout offers ----------------------------------------------------------------------


def offered_by(checkout: Path) -> dict[str, Any]:
    """name -> parameters of what can be called, None of what can't or does not say."""
    sys.path.insert(0, str(checkout))
    importlib.import_module("comfy.options").enable_args_parsing(False)
    importlib.import_module("comfy.cli_args").args.cpu = True
    names = sorted({use.name for use in uses()})
    return {name: _parameters(found) for name in names if (found := _resolved(name)) is not None}


def _resolved(name: str) -> Any:
    """The object of this name; None where there is none."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = importlib.import_module(".".join(parts[:end]))
        except ImportError:
            continue
        for part in parts[end:]:
            found = getattr(found, part, None)
        return found
    return None


def _parameters(found: Any) -> list[str] | None:
    """As in a definition: "a", "b=" with a default, "*", "*args", "**kwargs"."""
    try:
        signature = inspect.signature(found) if callable(found) else None
    except (TypeError, ValueError):
        return None
    if signature is None:
        return None
    parameters, starred = [], False
    for one in signature.parameters.values():
        if one.kind is one.KEYWORD_ONLY and not starred:
            parameters.append("*")
        starred |= one.kind in (one.KEYWORD_ONLY, one.VAR_POSITIONAL)
        prefix = {one.VAR_POSITIONAL: "*", one.VAR_KEYWORD: "**"}.get(one.kind, "")
        default = "" if one.default is one.empty or prefix else "="
        parameters.append(f"{prefix}{one.name}{default}")
    return parameters


def main() -> None:
    checkout = Path(sys.argv[1]).resolve()
    names = offered_by(checkout)
    version = importlib.import_module("comfyui_version").__version__
    text = json.dumps({"comfyui": version, "names": names}, indent=1) + "\n"
    LIST.write_text(text, encoding="utf-8")
    lines = [f"wrote {LIST.name}: {len(names)} names of ComfyUI {version}", *misfits(uses(), names)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
