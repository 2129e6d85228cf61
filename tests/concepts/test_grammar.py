"""Sentences: a word put into its slot or taken out of it, and found again."""

from __future__ import annotations

import pytest

from erase_engine.concepts.grammar import (
    contains,
    fill,
    frame_of,
    with_article,
    words_elsewhere,
    words_of,
)


@pytest.mark.parametrize(
    ("frame", "word", "sentence"),
    [
        ("a photo of {a_c}", "apple", "a photo of an apple"),
        ("a photo of {a_c}", "apples", "a photo of apples"),
        ("a photo of {a_c}", "bus", "a photo of a bus"),
        ("a photo of {a_c}", "old women", "a photo of old women"),
        ("a photo of {a_c}", "specimen", "a photo of a specimen"),
        ("a photo of {a_c}", "unicorn", "a photo of a unicorn"),
        ("a photo of {a_c}", "Van Gogh", "a photo of Van Gogh"),
        ("a photo of {a_c}", "Eiffel Tower", "a photo of the Eiffel Tower"),
        ("a photo of {a_c}", "Statue of Liberty", "a photo of the Statue of Liberty"),
        ("a photo of {a_c}", "the Eiffel Tower", "a photo of the Eiffel Tower"),
        ("a photo of {a_c}", "lighthouse tower", "a photo of a lighthouse tower"),
        ("a photo of {a_c}", "a person", "a photo of a person"),
        ("a photo of {a_c}", "snow", "a photo of snow"),
        ("A {c} house", "orange", "An orange house"),
        ("an {c} house", "red", "a red house"),
        ("an old {c} sits", "a person", "an old person sits"),
        ("the {c} sits", "a person", "the person sits"),
        ("a house in {c} style", "Van Gogh style", "a house in Van Gogh style"),
        ("a house in the style of {c}", "Ghibli style", "a house in Ghibli style"),
        ("a painting by {c}", "Monet style", "a painting in Monet style"),
        ("{c}, {c}", "dog", "dog, dog"),
    ],
)
def test_a_word_in_its_slot(frame: str, word: str, sentence: str) -> None:
    assert fill(frame, word) == sentence


@pytest.mark.parametrize(
    ("frame", "sentence"),
    [
        ("a {c} striped circle", "a striped circle"),
        ("a {c} orange circle", "an orange circle"),
        ("A {c} circle", "A circle"),
        ("{c}", ""),
        ("{a_c}, highly detailed", "highly detailed"),
        ("highly detailed, {a_c}, sharp", "highly detailed, sharp"),
        ("a photo of {a_c}", "a photo"),
        ("a photo of {a_c} on a beach", "a photo on a beach"),
        ("{a_c} and a cat", "a cat"),
        ("a photo of {a_c} and a cat", "a photo of a cat"),
        ("a cat and {a_c}", "a cat"),
        ("a cat next to {a_c}.", "a cat."),
        ("a house in {c} style", "a house"),
        ("a house in the style of {c}", "a house"),
        ("a house in {c}'s style", "a house"),
        ("a {c} style house", "a house"),
        ("in the background there is {a_c}", "in the background"),
        ("{c}, {c}, a photo of {a_c}, {c}", "a photo"),
        ("lights on, {a_c}", "lights on"),
        ("a white T-shirt with {a_c} on it", "a white T-shirt"),
        ("a T-shirt with a {c} on it, in autumn", "a T-shirt, in autumn"),
        ("a close-up of {a_c} printed on a mug", "a close-up of a mug"),
        ("a painting of a cat with {c} in the corner", "a painting of a cat"),
        (
            "a wide view on a beach with {a_c} in the distance, sharp",
            "a wide view on a beach, sharp",
        ),
        ("a cat and in the background {a_c}", "a cat"),
        ("sharp, {a_c} on a beach", "sharp, a scene on a beach"),
    ],
)
def test_a_word_taken_out_leaves_a_sentence(frame: str, sentence: str) -> None:
    assert fill(frame, "") == sentence


@pytest.mark.parametrize(
    ("text", "wording", "found"),
    [
        ("two Cats sit", "cat", True),
        ("a cat", "cats", True),
        ("boxes", "box", True),
        ("a catalog", "cat", False),
        ("a van  gogh house", "Van Gogh", True),
        ("the gogh van", "Van Gogh", False),
        ("red-haired", "red", True),
        ("scarred", "red", False),
        ("a glass", "glasses", False),
        ("one C++ book", "C++", True),
        ("一只猫在睡觉", "猫", True),
        ("", "cat", False),
    ],
)
def test_words_are_found_whole_in_any_case_and_number(text: str, wording: str, found: bool) -> None:
    assert contains(text, [wording]) is found


def test_a_frame_gives_its_own_sentence_back() -> None:
    for text in ("a photo of a dog", "the dog of a king", "An orange dog", "dog", "my dog, a cat"):
        assert fill(frame_of(text, ["dog"], noun=True), "dog") == text
        assert fill(frame_of(text, ["dog"], noun=False), "dog") == text


@pytest.mark.parametrize(
    ("prompt", "word", "elsewhere"),
    [
        ("a red star on a white background", "star", ["on", "a", "white", "background"]),
        ("a red star on a white background", "white", ["on", "a", "red", "star"]),
        ("a red star above a red ring", "ring", ["a", "star", "above"]),
        ("A red star, a (blue) cat!", "cat", ["a", "red", "star", "blue"]),
        ("stars left of a moon", "star", ["left", "of", "a", "moon"]),
        ("a star left of a ring", "left of", ["a", "star", "ring"]),
        ("a pink star", "star", ["a", "pink"]),  # nothing else is there
        ("star", "star", []),
    ],
)
def test_words_about_something_else(prompt: str, word: str, elsewhere: list[str]) -> None:
    assert sorted(words_elsewhere(prompt, word), key=str.lower) == sorted(elsewhere, key=str.lower)


def test_words_of_a_prompt_come_once_and_in_order() -> None:
    assert words_of("A red star, a (blue) star!") == ["a", "red", "star", "blue"]
    assert words_of(" ... ") == []


@pytest.mark.parametrize(
    ("one", "many"),
    [
        ("puppy", "puppies"),
        ("cookie", "cookies"),
        ("man", "men"),
        ("snowman", "snowmen"),
        ("child", "children"),
        ("wolf", "wolves"),
        ("red fox", "red foxes"),
        ("human", "humans"),
        ("boy", "boys"),
    ],
)
def test_a_word_is_found_in_either_number(one: str, many: str) -> None:
    for wording in (one, many):
        assert contains(f"two {many} asleep", [wording])
        assert contains(f"the {one} asleep", [wording])
        assert not contains(f"the {many}like", [wording])


def test_a_capital_alone_makes_no_name() -> None:
    assert with_article("Siamese cat") == "a Siamese cat"
    assert with_article("Vincent van Gogh") == "Vincent van Gogh"
