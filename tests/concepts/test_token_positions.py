"""A concept's tokens are found in each prompt, and what is cut off is named."""

from __future__ import annotations

import re

import pytest
from word_encoder import WordEncoder

from erase_engine.concepts.planner import plan_concept
from erase_engine.concepts.request import ConceptRequest
from erase_engine.concepts.token_positions import concept_tokens


@pytest.mark.parametrize(
    ("prompt", "wordings", "tokens"),
    [
        ("cat", ["cat"], (0,)),
        ("a photo of a cat", ["cat"], (4,)),
        ("Cat, on a mat", ["cat"], (0,)),
        (", (cat), two cats", ["cat"], (2, 6)),
        ("a Van Gogh house", ["van gogh"], (1, 2)),
        ("an elephants' house", ["elephant"], (1, 2)),
        ("a carpet and a car", ["car"], (4,)),
        ("a cat and a kitten", ["cat", "kitten"], (1, 4)),
    ],
)
def test_tokens_are_found_in_this_very_prompt(
    encoder: WordEncoder, prompt: str, wordings: list[str], tokens: tuple[int, ...]
) -> None:
    assert concept_tokens(encoder, prompt, wordings) == tokens


def test_a_concept_that_is_absent_is_named_with_the_prompt(encoder: WordEncoder) -> None:
    says = (
        "Got the concept 'nude', which is not in the prompt 'a cat', expected it there. "
        "Write it word for word, or leave the prompt empty."
    )
    with pytest.raises(ValueError, match=re.escape(says)):
        concept_tokens(encoder, "a cat", ["nude"])
    with pytest.raises(ValueError, match=re.escape(says)):
        ConceptRequest(concept="nude", prompts=("a nude", "a cat"))


def test_a_concept_that_is_cut_off_is_named_with_the_prompt() -> None:
    encoder = WordEncoder(max_tokens=4)
    assert concept_tokens(encoder, "a b c cat", ["cat"]) == (3,)
    assert concept_tokens(encoder, "cat b c d e cat", ["cat"]) == (0,)
    with pytest.raises(
        ValueError, match=r"Got the concept 'cat', which is cut off in the prompt 'a b c d cat'.*4"
    ):
        concept_tokens(encoder, "a b c d cat", ["cat"])
    with pytest.raises(ValueError, match="cut off"):
        concept_tokens(encoder, "a b c elephant", ["elephant"])


def test_a_users_prompt_that_is_cut_off_is_an_error() -> None:
    request = ConceptRequest(concept="cat", prompts=("many words here come before the cat",))
    encoder = WordEncoder(max_tokens=5)
    with pytest.raises(ValueError, match="cut off in the prompt 'many words"):
        plan_concept(request, encoder)
    assert encoder.compared == []  # said before any work


def test_a_concept_longer_than_the_limit_is_named() -> None:
    with pytest.raises(
        ValueError, match=r"Got the concept 'b c d e f' of 5 tokens, expected at most 4"
    ):
        plan_concept(ConceptRequest(concept="b c d e f"), WordEncoder(max_tokens=4))
