"""Concepts of several words: what shows them, how they are said otherwise, and who sees them."""

from __future__ import annotations

import pytest

from tinyworld.evaluate import found, prompts_with, replaced, shows
from tinyworld.judge import Judge
from tinyworld.make.data import render_all
from tinyworld.phrases import exchanged, kind_of, read_phrase, synonyms, truth
from tinyworld.vocabulary import (
    COLOUR_NAMES,
    RELATION_NAMES,
    SHAPE_NAMES,
    STYLE_NAMES,
    Scene,
    Thing,
)

PHRASES = ("red star", "striped circle", "outlined blue", "cross above ring")


def thing(colour: str, shape: str, style: str = "plain") -> Thing:
    places = (SHAPE_NAMES.index(shape), COLOUR_NAMES.index(colour), STYLE_NAMES.index(style))
    return Thing(*places)


def pair(first: Thing, relation: str, second: Thing) -> Scene:
    return Scene((first, second), RELATION_NAMES.index(relation), 0)


@pytest.mark.parametrize(
    ("concept", "kind"),
    [("star", "shape"), ("left of", "relation"), *((phrase, "phrase") for phrase in PHRASES)],
)
def test_words_make_a_kind(concept: str, kind: str) -> None:
    assert kind_of(concept) == kind


def test_a_word_that_the_world_lacks_is_an_error() -> None:
    with pytest.raises(ValueError, match=r"Got concept 'dog', expected one .* circle"):
        read_phrase("red dog")


def test_a_phrase_is_one_thing_that_is_all_of_it() -> None:
    apart = pair(thing("red", "circle"), "above", thing("blue", "star"))
    together = pair(thing("blue", "circle"), "above", thing("red", "star"))
    assert not shows(apart, "red star") and shows(together, "red star")
    assert shows(apart, "circle above star") and not shows(apart, "star above circle")
    assert shows(apart, "above") and not shows(apart, "below")


@pytest.mark.parametrize("concept", PHRASES)
def test_prompts_say_a_phrase_as_it_stands_and_the_judge_sees_it(concept: str) -> None:
    prompts = prompts_with(concept, 24)
    assert all(f" {concept} " in f" {prompt.text} " for prompt in prompts)
    pictures = render_all([prompt.scene for prompt in prompts], 1).float() / 255
    verdict = Judge.load().look(pictures)
    assert found(concept, prompts, verdict).float().mean() >= 0.95
    assert replaced(concept, concept, prompts, verdict).float().mean() >= 0.95
    assert not found("yellow heart", prompts, verdict).all()


def test_the_picture_of_a_relation_may_be_said_from_the_other_side() -> None:
    scene = pair(thing("red", "ring"), "below", thing("blue", "cross"))
    assert read_phrase("cross above ring").seen(truth(scene))
    assert not shows(scene, "cross above ring")


def test_the_anchor_takes_the_concepts_place_alone() -> None:
    scene = pair(thing("blue", "circle", "striped"), "above", thing("red", "star", "dotted"))
    after = exchanged(scene, "red star", "red diamond")
    assert after.things == (scene.things[0], thing("red", "diamond", "dotted"))
    plain = exchanged(scene, "striped circle", "circle")
    assert plain.things == (thing("blue", "circle"), scene.things[1])
    below = exchanged(scene, "circle above star", "circle below star")
    assert below == pair(scene.things[0], "below", scene.things[1])
    assert exchanged(scene, "above", "inside").relation == RELATION_NAMES.index("inside")
    with pytest.raises(ValueError, match="Got a scene without 'green'"):
        exchanged(scene, "green", "red")


@pytest.mark.parametrize("concept", PHRASES)
def test_synonyms_exchange_words_for_others_of_their_own(concept: str) -> None:
    found = synonyms(concept)
    assert len(set(found)) == len(found) >= 8 and concept not in found
    assert synonyms("star") == ("pentagram", "sparkle")


def test_a_place_is_not_anywhere() -> None:
    """A star beside the place of the star that was asked for is found, and stands not for it."""
    asked = prompts_with("star", 30, accept=lambda prompt: len(prompt.scene.things) == 2)
    swapped = [
        Scene((*prompt.scene.things[::-1],), prompt.scene.relation, prompt.scene.background)
        for prompt in asked
    ]
    verdict = Judge.load().look(render_all(swapped, 2).float() / 255)
    assert found("star", asked, verdict).all()
    assert replaced("star", "star", asked, verdict).float().mean() <= 0.05
