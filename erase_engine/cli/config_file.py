"""Config files: fields of `EraseConfig` and `ConceptRequest`, one erasure's or a list of them."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from ..concepts.request import ConceptRequest
from ..config import EraseConfig
from ..validation import check_names, once, shortened
from .other_forms import ERASE_FROM, is_leco, read_leco

FILE = "file"  # in a list: the name of an erasure's file
OF_CONFIG = {one.name for one in fields(EraseConfig)}
OF_REQUEST = {one.name for one in fields(ConceptRequest)}


def read_config(path: Path) -> dict[str, Any]:
    """The fields in a config file; those that no dataclass has are an error."""
    values = _read(path, "fields such as steps")
    return read_leco(values) if is_leco(values) else _checked_fields(values, path)


def read_erasures(path: Path) -> list[dict[str, Any]]:
    """The fields of each erasure in a file."""
    found = _read(path, "a list of erasures, each with fields such as concept")
    if not isinstance(found, list) or not found:
        raise ValueError(
            f"Got {said(path)}, which holds no list, expected one of erasures. Write each as "
            "- concept: cat, with the fields that --config knows."
        )
    return [_erasure(each, path) for each in found]


def _erasure(values: Any, path: Path) -> dict[str, Any]:
    """An entry of ours, or one of LECO's with the name of its file."""
    if not isinstance(values, dict) or "target" not in values:
        return _checked_fields(values, path, FILE)
    name = {key: value for key, value in values.items() if key == FILE}
    return read_leco([{key: each for key, each in values.items() if key != FILE}]) | name


def file_of(values: Mapping[str, Any]) -> str:
    """The name of an erasure's file: as given, else of its concept."""
    name = values.get(FILE, values.get("concept", ""))
    letters = "_".join(re.findall(r"[\w.-]+", name)) if isinstance(name, str) else ""
    if not letters.strip("."):
        raise ValueError(
            f"Got the file {shortened(repr(name))} for an erasure, expected a name. Give its file "
            "or its concept."
        )
    return letters


def said(path: Path) -> str:
    """A path for a message."""
    return shortened(str(path), 200)


def _checked_fields(values: Any, path: Path, *more: str) -> dict[str, Any]:
    known = {*OF_CONFIG, *OF_REQUEST, ERASE_FROM, *more}
    return check_names(values, sorted(known), f"in the config {said(path)}")


def _read(path: Path, holding: str) -> Any:
    """What a file of JSON, YAML or TOML says."""
    try:
        return _READERS.get(path.suffix, _from_yaml)(path.read_text(encoding="utf-8"))
    except (OSError, RecursionError, ValueError) as error:
        why = " ".join(shortened(str(error), 200).split())
        raise ValueError(
            f"Got the config {said(path)} that can't be read ({why}), expected JSON, YAML or TOML "
            f"with {holding}. Correct the path or the file."
        ) from error


def _from_yaml(text: str) -> Any:
    import yaml  # not before it is asked for: the engine runs without

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            once([(key.value, None) for key, _ in node.value if isinstance(key, yaml.ScalarNode)])
            return super().construct_mapping(node, deep)

    try:
        return yaml.load(text, Loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error


def _from_toml(text: str) -> Any:
    for name in ("tomllib", "tomli"):  # Python's own from 3.11 on, and the same as a package
        with suppress(ModuleNotFoundError):
            return import_module(name).loads(text)
    raise ValueError("this Python has no TOML: pip install tomli, or write YAML")


_READERS = {".json": partial(json.loads, object_pairs_hook=once), ".toml": _from_toml}
