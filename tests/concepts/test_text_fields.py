"""What is typed into text fields: one concept, not two; weights; lists."""

from __future__ import annotations

import pytest
from word_encoder import WordEncoder

from erase_engine.concepts.planner import plan_concept
from erase_engine.concepts.request import ConceptRequest
from erase_engine.concepts.text_fields import plain_prompt, plain_wording

TWO = ("cat, dog", "cat and dog", "cat; dog", "cat\ndog", "Cat & Dog", "cat AND dog", "猫、狗")
TWO += ("cat or dog", "cat/dog", "cat / dog", "cat + dog")


@pytest.mark.parametrize("concept", TWO)
def test_two_things_in_one_field_are_refused(concept: str) -> None:
    with pytest.raises(ValueError, match=r"as one concept.*'join'.*put it in quotes"):
        ConceptRequest.from_text(concept)


@pytest.mark.parametrize(
    ("typed", "concept"),
    [
        ('"salt and pepper shaker"', "salt and pepper shaker"),
        ("“Washington, D.C.”", "Washington, D.C."),
        ("sandals", "sandals"),
        ("C++ logo", "C++ logo"),
        ("24/7 sign", "24/7 sign"),
        ('"AC/DC"', "AC/DC"),
        ("cat,\n", "cat"),
        ("a cat", "cat"),
    ],
)
def test_one_thing_is_taken(typed: str, concept: str) -> None:
    assert ConceptRequest.from_text(typed).concept == concept


def test_quotes_around_each_of_two_do_not_make_them_one() -> None:
    with pytest.raises(ValueError, match="as one concept"):
        ConceptRequest.from_text('"cat" and "dog"')


@pytest.mark.parametrize(
    "typed", ["(star:1.3)", "((star))", "[star]", "{star}", "[star:0.5]", "(star"]
)
def test_weights_of_a_concept_are_left_out_with_a_note(typed: str) -> None:
    request = ConceptRequest.from_text(
        typed, synonyms=f"{typed}, (sun:1.1)", prompts="a (red star:1.2)", keep="a (moon:.5)"
    )
    assert request.wordings == ("star", "sun")
    assert request.prompts == ("a red star",) and request.keep == ("a moon",)
    assert "weights" in plan_concept(request, WordEncoder()).notes[0]
    plain = ConceptRequest.from_text("star", synonyms=["sun"], keep=("a moon",))
    assert plain.notes == ()


def test_brackets_behind_a_backslash_are_the_words_own() -> None:
    assert plain_wording(r"(star \(shape\):1.2)") == "star (shape)"
    assert plain_prompt(r"a (star \(shape\):1.2)") == "a star (shape)"


def test_many_brackets_are_opened() -> None:
    assert plain_prompt("(" * 900 + "a" + ")" * 900) == "a"
