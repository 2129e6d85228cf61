"""Concepts of several words: no slot filled twice, one part replaced, the parts kept elsewhere."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache

import pytest
from tiny_words import TINY_WORLD
from word_encoder import WordEncoder, plan

from erase_engine.concepts.grammar import contains
from erase_engine.concepts.plan import ConceptPlan
from erase_engine.concepts.planner import plan_concept
from erase_engine.concepts.request import ConceptRequest
from erase_engine.concepts.vocabulary import Kind

COLOURS, STYLES = (TINY_WORLD.fillers[name] for name in ("colour", "style"))
SHAPES, RELATIONS = (TINY_WORLD.fillers[name] for name in ("shape", "relation"))
PHRASES: list[tuple[str, Kind]] = [
    ("red star", "object"),
    ("striped circle", "object"),
    ("cross above ring", "relation"),
    ("dotted blue", "style"),
]


@cache
def tiny(concept: str, kind: Kind = "object", **fields: object) -> ConceptPlan:
    request = ConceptRequest(concept=concept, kind=kind, **fields)  # type: ignore
    return plan_concept(request, WordEncoder(), vocabulary=TINY_WORLD)


def things(prompt: str) -> list[list[str]]:
    """The words of each thing in a sentence of the tiny world."""
    text = re.sub(r"(?:on a )?\w+ background|\ban?\b|\b(?:picture|image|drawing) of\b", ",", prompt)
    parts = re.split("|".join((",", *(rf"\b{word}\b" for word in (*RELATIONS, "and")))), text)
    return [part.split() for part in parts if part.split()]


def said_twice(prompt: str) -> list[list[str]]:
    """Things with two colours, or two styles."""
    groups = (COLOURS, STYLES)
    return [t for t in things(prompt) for some in groups if sum(w in some for w in t) > 1]


def with_words(prompts: Sequence[str], *words: str) -> list[str]:
    """Prompts in which one thing has all of the words."""
    return [p for p in prompts if any(set(words) <= set(thing) for thing in things(p))]


@pytest.mark.parametrize(("concept", "kind"), PHRASES)
def test_no_thing_has_two_colours_or_styles(concept: str, kind: Kind) -> None:
    made = tiny(concept, kind)
    assert len(made.pairs) == 96
    for text in made.texts:
        assert not said_twice(text), text
        repeated = text.count(",") > 1
        assert len(things(text)) <= 2 or repeated, text


@pytest.mark.parametrize(
    ("concept", "kind", "anchor"),
    [
        ("red star", "object", rf"red ({'|'.join(SHAPES)})"),
        ("striped circle", "object", rf"striped ({'|'.join(SHAPES)})"),
        ("cross above ring", "relation", "cross below ring"),
        ("dotted blue", "style", rf"dotted ({'|'.join(COLOURS)})"),
    ],
)
def test_the_replacement_changes_one_part(concept: str, kind: Kind, anchor: str) -> None:
    found = tiny(concept, kind).anchor
    assert re.fullmatch(anchor, found) and found != concept


def test_everyday_phrases_keep_what_is_known_of_them() -> None:
    vehicles = "bus|truck|motorcycle|bicycle|train|airplane|helicopter|sailboat|tractor|tank|rocket"
    assert re.fullmatch(f"red ({vehicles}|hot air balloon)", plan("red car").anchor)
    assert plan("man hugging a dog", "relation").anchor == "man next to a dog"
    assert plan("nude woman", "nudity").anchor == "fully clothed woman"
    assert "Siamese" not in plan("Siamese cat").anchor


def test_the_same_further_words_stand_in_both_prompts_of_a_pair() -> None:
    pairs = tiny("red star", varied=0.0).pairs
    head = tiny("red star", varied=0.0).anchor.split()[-1]
    inside = [pair for pair in pairs if pair.word != "red star"]
    assert len(inside) > 10  # "red striped star", as captions have it
    for pair in pairs:
        assert pair.concept_prompt.replace("star", head) == pair.anchor_prompt
    relations = [pair.word for pair in tiny("cross above ring", "relation").pairs]
    assert sum(bool(re.search("above an? .*ring", word)) for word in relations) > 20


@pytest.mark.parametrize("modifier", ["red", "striped"])
def test_each_part_is_kept_in_other_company(modifier: str) -> None:
    head = {"red": "star", "striped": "circle"}[modifier]
    made = tiny(f"{modifier} {head}")
    others = set({"red": COLOURS, "striped": STYLES}[modifier]) - {modifier}
    heads = [p for other in others for p in with_words(made.keep, other, head)]
    modifiers = [p for s in set(SHAPES) - {head} for p in with_words(made.keep, modifier, s)]
    assert len(heads) >= 38 and len(modifiers) >= 38
    assert len(set(heads) & set(modifiers)) >= 12  # together in one sentence
    assert not with_words(made.keep, modifier, head)
    company = with_words(made.keep, head) + with_words(made.keep, modifier)
    assert len(set(company)) >= 0.25 * len(made.keep)


def test_the_things_of_a_relation_are_kept_in_others() -> None:
    prompts = tiny("cross above ring", "relation").keep
    assert sum(bool(re.search("cross (?!above).*ring", p)) for p in prompts) >= 10
    assert sum(bool(re.search("cross above(?!.*ring)", p)) for p in prompts) >= 10
    assert sum(bool(re.search("(?<!cross) above.*ring", p)) for p in prompts) >= 10


def test_what_a_words_entrance_holds_a_phrases_training_sees() -> None:
    """Few prompts were kept of a phrase, and what was said of them held for those alone."""
    word, phrase = tiny("star"), tiny("red star")
    assert len(word.keep) < 120 and len(word.held) == 256
    assert len(phrase.keep) > 300 and phrase.held == ()


@pytest.mark.parametrize(
    ("concept", "kind", "line"),
    [
        ("red star", "object", "a red striped star"),
        ("red star", "object", "two red stars"),
        ("cross above ring", "relation", "a blue cross above a pink ring"),
        ("cross above ring", "relation", "a ring below a cross"),
        ("dotted blue", "style", "a blue dotted circle"),
    ],
)
def test_what_says_the_concept_in_other_words_is_not_kept(
    concept: str, kind: Kind, line: str
) -> None:
    with pytest.raises(ValueError, match="both to keep and to erase"):
        tiny(concept, kind, keep=(line,))


@pytest.mark.parametrize(
    ("concept", "kind", "line"),
    [
        ("red star", "object", "a star"),
        ("red star", "object", "a star above a red circle"),
        ("red star", "object", "a red circle above a star"),
        ("cross above ring", "relation", "a ring above a cross"),
        ("dotted blue", "style", "a dotted circle and a blue star"),
    ],
)
def test_the_parts_elsewhere_may_be_kept(concept: str, kind: Kind, line: str) -> None:
    assert line in tiny(concept, kind, keep=(line,)).keep


@pytest.mark.parametrize("concept", ["on top of", "a red circle a yellow heart"])
def test_an_unknown_relation_asks_for_its_replacement(concept: str) -> None:
    encoder = WordEncoder()
    request = ConceptRequest(concept=concept, kind="relation")
    with pytest.raises(ValueError, match=r"Got the relation .* does not know.*Fill in"):
        plan_concept(request, encoder, vocabulary=TINY_WORLD)
    assert encoder.compared == []  # said before any work
    assert tiny("on top of", "relation", replacement="below").anchor == "below"
    assert tiny("on top of", "relation", synonyms=("above",)).anchor == "below"


def test_names_and_known_words_are_no_phrases() -> None:
    assert plan("hot dog").anchor.split()[0] != "hot"
    assert plan("Donald Duck", "person").anchor == "a person"
    assert any(contains(text, ["a Siamese cat"]) for text in plan("Siamese cat").texts)
