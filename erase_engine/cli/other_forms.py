"""What other trainers' files ask for, in the fields of ours: LECO's prompts, ESD's `erase_from`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..concepts.grammar import BETWEEN_PHRASES
from ..validation import check_names, check_number, told

ERASE_FROM = "erase_from"
# Of a LECO entry: its texts, its numbers as ours are called, and what must be as it is without.
TEXTS = ("target", "positive", "unconditional", "neutral", "action")
NUMBERS = {"guidance_scale": "negative_guidance", "batch_size": "batch"}
SIZE = "resolution"
FIXED = {"multiplier": 1, "weight": 1, "dynamic_resolution": False, "dynamic_crops": False}
FIELDS = (*TEXTS, *NUMBERS, SIZE, *FIXED)
SLIDER = ("slider", "target_class", "targets")


def is_leco(values: Any) -> bool:
    """Whether a file's content is LECO's: a list of entries, or an object with one or several."""
    entries = values.get("prompts") if isinstance(values, dict) else values
    listed = isinstance(entries, list) and any(isinstance(each, dict) for each in entries)
    return listed or (isinstance(values, dict) and not {"target", *SLIDER}.isdisjoint(values))


def read_leco(values: Any) -> dict[str, Any]:
    """Our fields for the one entry of a LECO file; what stands beside a list counts for it.

        v* = v(neutral) - guidance_scale (v(positive) - v(unconditional))        LECO
        v* = v(anchor) - negative_guidance (v(concept) - v(anchor))              ours

    They are one for positive = target, the concept, and unconditional = neutral, the anchor.

    Raises ValueError for whatever is not the same in ours.
    """
    shared = dict(values) if isinstance(values, dict) else {}
    entries = shared.pop("prompts", [{}]) if isinstance(values, dict) else values
    if not isinstance(entries, list) or len(entries) != 1:
        got = f"{len(entries)} entries" if isinstance(entries, list) else f"prompts {told(entries)}"
        raise ValueError(
            f"Got {got} in the LECO file, expected a list of one: a LoRA is trained for one "
            "concept. Train each alone, and put the files together with Merge Erasure LoRAs."
        )
    if isinstance(entries[0], dict) and not {*shared, *entries[0]}.isdisjoint(SLIDER):
        raise ValueError(
            "Got a slider in the LECO file, expected an entry that erases its target. Write "
            "target, and what should appear instead as neutral."
        )
    entry = check_names(entries[0], FIELDS, "in the LECO entry")
    return _fields({**check_names(shared, FIELDS, "in the LECO file"), **entry})


def narrowed(values: Mapping[str, Any]) -> dict[str, Any]:
    """ESD's `erase_from` as a concept of several words: "red" from "rose" is "red rose".

    A rose appears instead, where nothing else is named; other roses and other red things are kept.

    Raises ValueError where that can't be said of a thing.
    """
    kept = {name: value for name, value in values.items() if name != ERASE_FROM}
    if ERASE_FROM not in values:
        return kept
    concept, thing = values.get("concept"), values[ERASE_FROM]
    if not (isinstance(concept, str) and isinstance(thing, str) and concept and thing):
        raise ValueError(
            f"Got {ERASE_FROM} {told(thing)} and concept {told(concept)}, expected two texts, such "
            "as rose and red. Write both in words."
        )
    if thing.lower() == concept.lower():  # as ESD has it where nothing is said
        return kept
    if values.get("kind", "object") != "object" or values.get("synonyms"):
        raise ValueError(
            f"Got {ERASE_FROM} beside another kind than object, or beside synonyms, expected a "
            "concept alone. Leave them out, or write the whole concept and its synonyms without "
            f"{ERASE_FROM}."
        )
    behind = re.match(rf"(?:{BETWEEN_PHRASES})\s", concept.strip(), re.IGNORECASE)
    whole = f"{thing} {concept}" if behind else f"{concept} {thing}"
    keep = kept.get("keep", ())
    alone = () if behind else (concept,)
    return {
        "replacement": thing,
        **kept,
        "concept": whole,
        "keep": (*keep, *alone, thing) if isinstance(keep, (list, tuple)) else keep,
    }


def _fields(entry: Mapping[str, Any]) -> dict[str, Any]:
    """A whole entry in our fields."""
    target, neutral = entry.get("target", ""), entry.get("neutral", entry.get("unconditional", ""))
    same = {
        "action": ("erase", "erase, which is all that is trained here"),
        "positive": (target, f"the target; write concept and {ERASE_FROM} in a config of ours"),
        "unconditional": (neutral, "the neutral text"),
        **{name: (value, repr(value)) for name, value in FIXED.items()},
    }
    for name, (expected, said) in same.items():
        if (got := entry.get(name, expected)) != expected:
            raise ValueError(
                f"Got {name} {told(got)} in the LECO entry, expected {said}. Change or remove it."
            )
    fields = {ours: entry[theirs] for theirs, ours in NUMBERS.items() if theirs in entry}
    if "guidance_scale" in entry:
        check_number("guidance_scale", entry["guidance_scale"], low=0, high=100)
    if SIZE in entry:
        pair = entry[SIZE]  # height and width, or one number for both
        two = isinstance(pair, list) and len(pair) == 2
        fields |= dict(zip(("height", "width"), pair if two else (pair, pair), strict=True))
    return {**fields, "concept": target, "replacement": neutral}  # "" lets the planner choose
