"""The plan as text and as data, edited by hand or damaged."""

from __future__ import annotations

import json
import re
from dataclasses import replace

import pytest
from word_encoder import WordEncoder, plan

from erase_engine.concepts.plan import ConceptPlan


def test_the_plan_reads_as_text() -> None:
    text = plan("cat", synonyms=("kitten",)).describe()
    for part in ("Erase: cat (object)", "Also erase: kitten", "Instead: ", "Contrast with: "):
        assert part in text
    assert "nothing, the words are left out" in plan("Van Gogh", "style").describe()


def test_a_plan_without_end_reads_as_one_of_some_length() -> None:
    made = plan("cat", synonyms=("kitten",))
    told = {"notes": ("\u202e" + "n" * 5000,) * 500, "synonyms": ("s" * 200,) * 900}
    text = replace(made, **told).describe()
    assert len(text) < 60_000 and "\u202e" not in text
    assert text.startswith("Erase: cat (object)\nAlso erase: sss") and "prompt pairs" in text


def test_edited_prompts_are_located_anew(encoder: WordEncoder) -> None:
    made = plan("cat")
    edited = replace(made, pairs=(replace(made.pairs[0], concept_prompt="oh, cat", word="cat"),))
    assert edited.located(encoder).pairs[0].tokens == (2,)
    lost = replace(made, pairs=(replace(made.pairs[0], concept_prompt="oh", word="cat"),))
    with pytest.raises(ValueError, match="Got the concept 'cat', which is not in the prompt 'oh'"):
        lost.located(encoder)


def test_plans_that_can_not_be() -> None:
    made = plan("cat")
    with pytest.raises(ValueError, match="with 0 prompt pairs and"):
        replace(made, pairs=())
    with pytest.raises(ValueError, match="Got 'two cats' as a prompt free of the concept 'cat'"):
        replace(made, keep=("two cats",))
    with pytest.raises(ValueError, match="Got 'a cat' as a prompt free of the concept"):
        replace(made, pairs=(replace(made.pairs[0], anchor_prompt="a cat"),))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("no", "Got text that is not JSON"),
        ("[1]", "Got list for ConceptPlan, expected an object"),
        ('{"concept": "cat"}', "Got a ConceptPlan without kind, anchor, synonyms"),
        ('{"konzept": "cat"}', "Got konzept for ConceptPlan"),
        ("[" * 100_000, "Got text that is not JSON"),
    ],
)
def test_json_that_is_not_a_plan(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)):
        ConceptPlan.from_json(text)


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"pairs": 3}, "Got a plan with a value of the wrong type"),
        ({"pairs": [3]}, "Got int for PromptPair, expected an object"),
        ({"pairs": [{"word": "cat"}]}, "Got a PromptPair without concept_prompt"),
        ({"keep": [3]}, "Got (3,) for keep, expected a list of texts"),
        ({"keep": None}, "Got None for keep, expected a list of texts"),
        ({"keep": "dog"}, "Got 'dog' for keep, expected a list of texts"),
        ({"notes": 5}, "Got 5 for notes, expected a list of texts"),
        ({"notes": [{}]}, "for notes, expected a list of texts"),
        ({"held": ["z" * 7000]}, "of 7000 letters, expected at most 6000. Shorten it"),
        ({"held": ["a dog"] * 10_000}, "sentences, expected at most 10,000. Remove"),
        ({"held": ["a dog " * 999] * 700}, " letters, expected at most 4,000,000. Remove"),
        ({"synonyms": ["kitten"] * 998}, "plan of 1,001 words, expected at most 1,000. Remove"),
        ({"notes": ["so"] * 1001}, "plan of 1,001 notes, expected at most 1,000. Remove some"),
        ({"concepts": "two"}, "Got concepts 'two', expected a whole number"),
        ({"concepts": 10**8}, "Got concepts 100000000, expected a whole number from 1 to 10000"),
        ({"irrelevant": [" "]}, "Got the irrelevant word ' ', expected at least one letter"),
        ({"concept": None}, "Got words None, expected text"),
        ({"concept": ""}, "Got the concept '', expected"),
        ({"anchor": 3}, "Got words 3, expected text"),
        ({"synonyms": [3]}, "Got (3,) for synonyms, expected a list of texts"),
        ({"kind": []}, "Got kind (), expected one of object"),
        ({"pairs": [], "keep": []}, "with 0 prompt pairs and 0 keep prompts"),
    ],
)
def test_json_edited_by_hand(fields: dict[str, object], says: str) -> None:
    values = {**json.loads(plan("cat").to_json()), **fields}
    with pytest.raises(ValueError, match=re.escape(says)):
        ConceptPlan.from_json(json.dumps(values))


def test_a_pair_has_a_word_of_letters() -> None:
    with pytest.raises(ValueError, match="Got the word '-', expected at least one letter or digit"):
        replace(plan("cat").pairs[0], word="-")


@pytest.mark.parametrize("tokens", [(), (3, 2), (1, 1), (-1,), (1.5,), (True,)])
def test_a_pair_has_tokens_in_order(tokens: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected at least one, rising"):
        replace(plan("cat").pairs[0], tokens=tokens)
