"""Generated bad input: each is taken and works, or is refused in words that a person can act on."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from generated import holds, odd_json, odd_tree, several
from word_encoder import TINY, WordEncoder, plan

from erase_engine.concepts.plan import ConceptPlan
from erase_engine.concepts.planner import plan_concept
from erase_engine.concepts.request import ConceptRequest
from erase_engine.config import RECIPES, EraseConfig

CONFIGS = [json.loads(EraseConfig.from_recipe(name).to_json()) for name in RECIPES]


def test_configs() -> None:
    def make(rng: Random) -> str:
        return odd_json(rng.choice(CONFIGS), rng)

    def give(text: str) -> None:
        config = EraseConfig.from_json(text)
        assert_said(text, json.loads(config.to_json()))

    holds("config", 300, make, give)


def assert_said(text: str, found: dict[str, Any]) -> None:
    """What was taken is what was said, nothing twice."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        names = [name for name, _ in pairs]
        assert len(set(names)) == len(names), "a name twice"
        return dict(pairs)

    for name, value in json.loads(text, object_pairs_hook=once).items():
        other = found[name]
        if isinstance(value, dict):
            other = {each: other[each] for each in value}
        if name == "lora" and value.get("alpha", 0) is None:
            value = {**value, "alpha": other["rank"]}
        assert value == other and same_kinds(value, other), f"{name}: {value} became {other}"


def same_kinds(value: Any, other: Any) -> bool:
    return isinstance(value, bool) == isinstance(other, bool)


REQUEST = {
    "concept": "cat",
    "kind": "object",
    "replacement": "dog",
    "synonyms": ["kitten", "a feline"],
    "keep": ["a red fox", "star"],
    "prompts": ["a photo of a cat"],
    "also_erased": ["horse"],
    "pairs": 2,
    "shuffled": 0.5,
    "varied": 0.1,
    "seed": 3,
    "notes": ["as it was"],
}


def test_requests() -> None:
    """And the plans that are made of those that are taken."""

    def make(rng: Random) -> Any:
        given = {name: value for name, value in REQUEST.items() if rng.random() < 0.6}
        fields = several(odd_tree, rng, {"concept": "cat", **given})
        return fields if isinstance(fields, dict) else {"concept": fields}

    def give(given: dict[str, Any]) -> None:
        others = {name: value for name, value in given.items() if name != "concept"}
        request = ConceptRequest.from_text(given.get("concept", "cat"), **others)
        made = plan_concept(request, WordEncoder(), vocabulary=TINY)
        assert ConceptPlan.from_json(made.to_json()) == made

    holds("request", 250, make, give)


PLAN = json.loads(plan("cat", synonyms=("kitten",), pairs=4).to_json())
PLAN |= {"held": PLAN["held"][:4], "keep": PLAN["keep"][:4]}


def test_plans() -> None:
    def make(rng: Random) -> str:
        return odd_json(PLAN, rng)

    def give(text: str) -> None:
        found = ConceptPlan.from_json(text)
        assert_said(text, json.loads(found.to_json()))
        located = found.located(WordEncoder())
        assert len(located.describe()) < 100_000

    holds("plan", 350, make, give)
