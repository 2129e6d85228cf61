"""Sentences about fifty things that people want erased: a simple check of grammar, and a reader's.

`everyday_sentences.txt` is what was read last, and is read again wherever it changes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from word_encoder import WordEncoder

from erase_engine.concepts.everyday import PICTURES
from erase_engine.concepts.kept_sentences import HELD
from erase_engine.concepts.plan import ConceptPlan
from erase_engine.concepts.planner import plan_concept
from erase_engine.concepts.request import ConceptRequest
from erase_engine.concepts.vocabulary import Kind

EVERYDAY: dict[Kind, str] = {
    "object": "dog, cats, dragon, umbrella, sports car, red rose, cigarettes, blood, snow, gun, "
    "logo, Nike logo, watermark, signature, text, barcode, hot air balloon, orange, Eiffel Tower, "
    "mushroom, ice cream, Siamese cat, hamburger, hourglass",
    "style": "Van Gogh, Claude Monet style, Ghibli style, anime, pixel art, photorealism, wooden, "
    "striped, red, Art Deco style",
    "person": "Albert Einstein, Taylor Swift, astronaut, police officer, children, old man",
    "relation": "riding, holding, above, man riding a horse",
    "nudity": "nudity, nude, naked woman, topless, nakedness, lingerie",
}
READ = Path(__file__).with_name("everyday_sentences.txt")
CASES = [(word, kind) for kind, words in EVERYDAY.items() for word in words.split(", ")]
MANY = "children|people|men|women|teeth|feet|mice|geese"
MASS = "nudity|nakedness|lingerie|text|blood|snow|sushi"
SMALL = "a|an|the|of|in|on|at|with|by|and|near|next to|far away|in the style of|printed on|there is"
WRONG = {
    "a doubled word": r"\b(\w+) \1\b",
    "a style of a style": r"style of [^,]* style\b",
    "a before a vowel": r"\ba (?=[aeio])(?!one\b|eu)",
    "an before a consonant": r"\ban (?![aeiouh])",
    "an article too many": r"\b(?:a|an|the) (?:a|an|the)\b",
    "an article before what is not counted": rf"\ban? (?:{MASS})\b",
    "one of many": rf"\ban? (?:{MANY})\b",
    "an end without its word": rf"(?:^|\s)(?:{SMALL})(?:$|,)",
    "a beginning without its word": r"(?:^|, )(?:and|of|with|by|on|next|near|printed)\b",
    "nothing": r"^$|^,|, ,|,$|\s\s",
}


def plan_of(concept: str, kind: Kind) -> ConceptPlan:
    # Misspelled and repeated words are wrong on purpose.
    request = ConceptRequest(concept=concept, kind=kind, pairs=48, varied=0)
    return plan_concept(request, WordEncoder())


def to_be_read() -> Iterator[str]:
    """Of each concept: what appears instead and why, pairs of sentences, and others that stay."""
    for concept, kind in CASES:
        plan = plan_of(concept, kind)
        why = next(note for note in plan.notes if not note.startswith("No synonyms"))
        yield f"{kind}: {concept}\n  ({why})"
        for pair in plan.pairs[:5]:
            yield f"  {pair.concept_prompt}\n    -> {pair.anchor_prompt}"
        further = (*plan.keep, *plan.held)[-HELD:][:2]
        yield from (f"  stays: {text}" for text in (*plan.keep[:2], *further))


def faults(text: str) -> list[str]:
    return [name for name, pattern in WRONG.items() if re.search(pattern, text)]


def test_they_are_fifty_and_of_all_kinds() -> None:
    assert len(CASES) == 50 and all(len(words.split(", ")) > 3 for words in EVERYDAY.values())


def test_they_are_as_they_were_read(tmp_path: Path) -> None:
    now = tmp_path / READ.name
    now.write_text("".join(f"{line}\n" for line in to_be_read()), encoding="utf-8")
    assert now.read_text(encoding="utf-8") == READ.read_text(encoding="utf-8"), (
        f"The planner says other sentences now. Read {now}: is each one English, and does it mean "
        f"what it should? Then copy it to {READ}."
    )


@pytest.mark.parametrize(("concept", "kind"), CASES, ids=lambda value: str(value))
def test_every_sentence_is_one(concept: str, kind: Kind) -> None:
    plan = plan_of(concept, kind)
    pairs = [(pair.concept_prompt, pair.anchor_prompt) for pair in plan.pairs]
    wrong = {text: faults(text) for pair in pairs for text in pair if faults(text)}
    assert wrong == {}
    assert len(plan.pairs) == 48
    details = set(PICTURES.details)
    assert [text for _, text in pairs if set(text.split(", ")) <= details] == []
    kept = [text for text in (*plan.keep, *plan.held) if text and faults(text)]
    assert kept == []


@pytest.mark.parametrize(
    ("concept", "kind", "says", "instead"),
    [
        ("logo", "object", "a white T-shirt with a logo on it", "a white T-shirt"),
        ("logo", "object", "a logo printed on ", ""),
        ("watermark", "object", " with a watermark in the corner", ""),
        ("nudity", "nudity", "nudity, a portrait of", "modest clothing, a portrait of"),
        ("Ghibli style", "style", " in Ghibli style", ""),
        ("old man", "person", "an old man", "a young man"),
    ],
)
def test_it_is_said_as_people_say_it(concept: str, kind: Kind, says: str, instead: str) -> None:
    found = [pair for pair in plan_of(concept, kind).pairs if says in pair.concept_prompt]
    assert found
    for pair in found:
        assert pair.concept_prompt.replace(says, instead) == pair.anchor_prompt


def test_a_check_that_sees_nothing_would_be_none() -> None:
    assert faults("a nudity old woman") == ["an article before what is not counted"]
    assert faults("a children on a beach") == ["one of many"]
    assert faults("a house in the style of Ghibli style") == ["a style of a style"]
    assert faults("a car, on a mountain") and faults("a woman next to") and faults("a apple")
    assert faults("a wide view at a market, far away") and faults("the the dog")
