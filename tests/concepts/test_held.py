"""Sentences by the hundred whose text features are held."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache

import pytest
from tiny_words import TINY_WORLD
from word_encoder import WordEncoder

from erase_engine.concepts.everyday import PICTURES
from erase_engine.concepts.grammar import contains
from erase_engine.concepts.kept_sentences import HELD
from erase_engine.concepts.plan import ConceptPlan
from erase_engine.concepts.planner import plan_concept, plan_together
from erase_engine.concepts.request import ConceptRequest
from erase_engine.concepts.vocabulary import Kind

CONCEPTS: list[tuple[str, Kind]] = [
    ("star", "object"),
    ("red", "style"),
    ("striped", "style"),
    ("above", "relation"),
]


@cache
def tiny(concept: str, kind: Kind) -> ConceptPlan:
    request = ConceptRequest(concept=concept, kind=kind)
    return plan_concept(request, WordEncoder(), vocabulary=TINY_WORLD)


@pytest.mark.parametrize(("concept", "kind"), CONCEPTS)
def test_held_sentences_are_many_free_and_none_of_the_others(concept: str, kind: Kind) -> None:
    made = tiny(concept, kind)
    assert len(made.held) == len(set(made.held)) == HELD
    assert not set(made.held) & set(made.keep)
    assert not any(contains(text, [concept]) for text in made.held)


@pytest.mark.parametrize(("concept", "kind"), CONCEPTS)
def test_every_word_is_held_and_the_nearest_often(concept: str, kind: Kind) -> None:
    held = tiny(concept, kind).held
    for category in TINY_WORLD.categories.values():
        for word in set(category.words) - {concept}:
            count = sum(contains(text, [word]) for text in held)
            assert count >= (12 if concept in category.words else 3), word


def test_a_neighbour_is_held_alone_styled_and_beside_another() -> None:
    relations, styles = TINY_WORLD.fillers["relation"], TINY_WORLD.fillers["style"]
    for word in set(TINY_WORLD.categories["shape"].words) - {"star"}:
        own = [text for text in tiny("star", "object").held if contains(text, [word])]
        alone = [text for text in own if not contains(text, relations)]
        assert len(alone) >= 3 and len(own) - len(alone) >= 3, word
        assert any(contains(text, styles) for text in alone), word


def test_everyday_neighbours_are_held_too() -> None:
    request = ConceptRequest(concept="cat", synonyms=("kitten", "kitties"))
    made = plan_concept(request, WordEncoder())
    assert not any(contains(text, ("cat", "kitten", "kitty")) for text in made.held)
    for word in set(PICTURES.categories["animal"].words) - {"cat"}:
        assert sum(contains(text, [word]) for text in made.held) >= 3, word


def test_what_is_held_may_not_name_the_concept() -> None:
    with pytest.raises(ValueError, match="Got 'two stars' as a prompt free of the concept"):
        replace(tiny("star", "object"), held=("two stars",))


def test_plans_without_held_sentences_are_read() -> None:
    made = tiny("star", "object")
    old = {name: value for name, value in json.loads(made.to_json()).items() if name != "held"}
    read = ConceptPlan.from_json(json.dumps(old))
    assert read == replace(made, held=())
    assert ConceptPlan.from_json(made.to_json()) == made
    assert f"{HELD} further sentences" in made.describe()


def test_a_plans_texts_are_all_that_stand_in_it() -> None:
    made = tiny("star", "object")
    assert made.texts >= {*made.keep, *made.held}
    assert {made.pairs[0].concept_prompt, made.pairs[0].anchor_prompt} <= made.texts


def test_joined_plans_hold_what_names_none_of_their_concepts() -> None:
    requests = [ConceptRequest(concept="star"), ConceptRequest(concept="red", kind="style")]
    made = plan_together(requests, WordEncoder(), vocabulary=TINY_WORLD)
    assert len(made.held) > HELD
    assert not any(contains(text, ("star", "red")) for text in made.held)
    assert not set(made.held) & set(made.keep)
