"""Several concepts in one plan: no sentence of one names another."""

from __future__ import annotations

import pytest
from word_encoder import WordEncoder

from erase_engine.concepts.grammar import contains
from erase_engine.concepts.plan import ConceptPlan
from erase_engine.concepts.planner import plan_concept, plan_together
from erase_engine.concepts.request import ConceptRequest


def requests() -> list[ConceptRequest]:
    return [
        ConceptRequest(concept="cat", synonyms=("kitten",), pairs=12),
        ConceptRequest(concept="dog", synonyms=("puppy",), pairs=12),
        ConceptRequest(concept="Van Gogh", kind="style", pairs=6),
    ]


@pytest.fixture(scope="module")
def plan() -> ConceptPlan:
    return plan_together(requests(), WordEncoder())


def test_one_request_is_its_own_plan() -> None:
    (alone,) = requests()[:1]
    assert plan_together([alone], WordEncoder()) == plan_concept(alone, WordEncoder())


def test_nothing_that_stays_names_anything_that_goes(plan: ConceptPlan) -> None:
    erased = ("cat", "kitten", "dog", "puppy", "Van Gogh")
    assert set(erased) <= set(plan.wordings)
    for text in (*plan.keep, *(pair.anchor_prompt for pair in plan.pairs)):
        assert not contains(text, erased), text


def test_each_sentence_is_about_one_concept_with_its_own_replacement(plan: ConceptPlan) -> None:
    groups = [("cat", "kitten"), ("dog", "puppy"), ("Van Gogh",)]
    for pair in plan.pairs:
        named = [group for group in groups if contains(pair.concept_prompt, group)]
        assert len(named) <= 1  # a misspelled one names none
    assert plan.concept == "cat + dog + Van Gogh"
    assert len(plan.anchor.split(", ")) == 3
    first = [next((i for i, g in enumerate(groups) if p.word in g), None) for p in plan.pairs[:3]]
    assert first == [0, 1, 2]  # by turns


def test_it_survives_json_and_contrasts_nothing(plan: ConceptPlan) -> None:
    assert ConceptPlan.from_json(plan.to_json()) == plan
    assert plan.irrelevant == ()


def test_a_thing_that_is_to_be_erased_twice_is_named() -> None:
    twice = [ConceptRequest(concept="cat"), ConceptRequest(concept="Cat", synonyms=("puss",))]
    with pytest.raises(ValueError, match="Got 'cat' in two of the concepts to erase"):
        plan_together(twice, WordEncoder())


def test_keep_lines_and_replacements_may_not_name_another_concept() -> None:
    cat, *_ = requests()
    for wrong in ({"keep": ("a cat on a mat",)}, {"replacement": "cat"}):
        with pytest.raises(ValueError, match=r"Got .*cat"):
            plan_together([cat, ConceptRequest(concept="dog", **wrong)], WordEncoder())
