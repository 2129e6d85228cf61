"""What may be asked for, and what is refused."""

from __future__ import annotations

import re

import pytest
from word_encoder import plan

from erase_engine.concepts.grammar import contains
from erase_engine.concepts.request import ConceptRequest


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"concept": ""}, "Got the concept '', expected at least one letter"),
        ({"concept": "  \n "}, "Got the concept '', expected at least one letter"),
        ({"concept": "!?"}, "Got the concept '!?', expected at least one letter"),
        ({"concept": "a\x00b"}, "Got the control character '\\x00' in concept 'a b'"),
        ({"concept": "a\ud800b"}, "Got the control character '\\ud800' in concept"),
        ({"concept": "星" * 90 + "\0"}, f"in concept '{'星' * 77}...', expected printable text"),
        ({"concept": "x" * 201}, "of 201 letters, expected at most 200"),
        ({"concept": 3}, "Got concept 3, expected text"),
        ({"kind": "color"}, "Got kind 'color', expected one of object, style, person"),
        ({"synonyms": ("--",)}, "Got the synonym '--', expected at least one letter"),
        ({"synonyms": "kitty"}, "Got 'kitty' for synonyms, expected a list"),
        ({"keep": ("x",) * 501}, "Got 501 entries for keep, expected a list of at most 500"),
        ({"keep": ("x" * 2001,)}, "of 2001 letters, expected at most 2000"),
        ({"replacement": "cat"}, "Got the replacement 'cat' for the concept 'cat'"),
        ({"replacement": "two Cats"}, "Got the replacement 'two Cats' for the concept 'cat'"),
        (
            {"synonyms": ("kitty",), "replacement": "kitty"},
            "expected one without any of cat, kitty",
        ),
        ({"keep": ("cat",)}, "Got 'cat' both to keep and to erase (concept 'cat')"),
        ({"keep": ("a dog", "a dog and cats")}, "Got 'a dog and cats' both to keep and to erase"),
        ({"synonyms": ("kitty",), "keep": ("a kitty",)}, "Got 'a kitty' both to keep and to erase"),
        ({"pairs": 0}, "Got pairs 0, expected"),
        ({"seed": -1}, "Got seed -1, expected"),
        ({"varied": 2.0}, "Got varied 2.0, expected"),
    ],
)
def test_requests_that_can_not_be_met(fields: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        ConceptRequest(**{"concept": "cat", **fields})  # type: ignore


TURNED = "\u202e" + "x" * 150  # a letter that turns others around


@pytest.mark.parametrize(
    "fields",
    [
        {"concept": "\u202e\u2066!"},
        {"prompts": ["a dog"]},
        {"replacement": TURNED},
        {"keep": [TURNED]},
        {"also_erased": [TURNED]},
        {"synonyms": ["\u202e"]},
    ],
    ids=lambda fields: next(iter(fields)),
)
def test_what_is_refused_is_told_in_letters_that_are_seen(fields: dict[str, object]) -> None:
    words = [f"word {number} {'y' * 150}" for number in range(90)]
    with pytest.raises(ValueError, match=r"(?s)^Got .*expected .*\. [A-Z]") as error:
        ConceptRequest(**{"concept": TURNED, "synonyms": words, **fields})  # type: ignore
    assert "\u202e" not in str(error.value) and len(str(error.value)) < 600


def test_requests_are_tidied() -> None:
    request = ConceptRequest(
        concept=" Van \t Gogh ",
        synonyms=("van gogh", "Vincent", "", "Vincent"),
        keep=("a  dog", " "),
    )
    assert request.concept == "Van Gogh"
    assert request.synonyms == ("Vincent",)
    assert request.keep == ("a dog",)
    assert request.wordings == ("Van Gogh", "Vincent")


def test_an_article_is_no_part_of_a_wording() -> None:
    request = ConceptRequest(concept="a cat", synonyms=("The kitten", "an A"), prompts=("the cat",))
    assert request.wordings == ("cat", "kitten", "A")
    assert ConceptRequest(concept="A").concept == "A"


def test_requests_from_text_fields() -> None:
    request = ConceptRequest.from_text(
        "cat", synonyms="kitten, feline\nkitty", keep="a dog, asleep\nhorse\n", prompts="", seed=3
    )
    assert request.synonyms == ("kitten", "feline", "kitty")
    assert request.keep == ("a dog, asleep", "horse")
    assert request.prompts == () and request.seed == 3
    with pytest.raises(ValueError, match="Got synonym for ConceptRequest"):
        ConceptRequest.from_text("cat", synonym="kitten")


def test_a_narrower_concept_may_keep_the_wider_one() -> None:
    made = plan("Siamese cat", keep=("cat",))
    assert any(contains(prompt, ["cat"]) for prompt in made.keep)
