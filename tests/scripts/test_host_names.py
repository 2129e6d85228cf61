"""What the pack takes from ComfyUI is there in a newer one, too, and takes the same arguments."""

from __future__ import annotations

import ast
import json

from host_names import LIST, Use, misfits, uses

OFFERED = json.loads(LIST.read_text(encoding="utf-8"))["names"]


def call(text: str) -> ast.Call:
    found = ast.parse(text, mode="eval").body
    assert isinstance(found, ast.Call)
    return found


def test_a_newer_host_offers_all_that_the_pack_takes() -> None:
    found = uses()
    assert len({use.name for use in found}) > 40
    assert {"comfy.utils.ProgressBar", "comfy_api.latest.io.Schema"} <= {use.name for use in found}
    assert misfits(found, OFFERED) == []


def test_what_is_not_offered_is_found_out() -> None:
    gone = Use("comfy.utils.gone", "a.py:1", None)
    assert misfits([gone], OFFERED) == ["a.py:1: comfy.utils.gone is not there"]


def test_arguments_that_are_not_taken_are_found_out() -> None:
    def fits(text: str, parameters: list[str]) -> bool:
        return not misfits([Use("f", "a.py:1", call(text))], {"f": parameters})

    assert fits("f(1, b=2)", ["a", "b="]) and not fits("f(1, c=2)", ["a", "b="])
    assert not fits("f(1, 2, 3)", ["a", "b="]) and fits("f(1, 2, 3)", ["a", "*more"])
    assert not fits("f(1, 2)", ["a", "*", "b="]) and fits("f(1, b=2)", ["a", "*", "b="])
    assert fits("f(1, c=2)", ["a", "**rest"]) and not fits("f(1, 2)", ["a", "**rest"])
    assert fits("f(*some)", ["a"])
