"""Words for other worlds, and from WordNet where it is installed."""

from __future__ import annotations

import re
import sys
from types import ModuleType, SimpleNamespace

import pytest
from word_encoder import TINY, WordEncoder, plan

from erase_engine.concepts.everyday import PICTURES
from erase_engine.concepts.grammar import contains
from erase_engine.concepts.planner import plan_concept
from erase_engine.concepts.request import ConceptRequest
from erase_engine.concepts.vocabulary import KINDS, Kind, Vocabulary


@pytest.mark.parametrize(
    ("concept", "kind", "anchor"),
    [
        ("circle", "object", None),
        ("striped", "style", ""),
        ("red", "style", None),
        ("above", "relation", "below"),
        ("inside", "relation", None),
    ],
)
def test_another_world_brings_its_own_words(
    concept: str, kind: Kind, anchor: str | None, encoder: WordEncoder
) -> None:
    request = ConceptRequest(concept=concept, kind=kind, pairs=24, varied=0.0)
    made = plan_concept(request, encoder, vocabulary=TINY)
    bank = {word for one in TINY.categories.values() for word in one.words}
    assert made.anchor in bank | {""} if anchor is None else made.anchor == anchor
    assert anchor == "" or made.anchor
    assert set(made.irrelevant) < bank and len(made.irrelevant) == 3
    texts = (*made.keep, *(pair.concept_prompt for pair in made.pairs))
    frames = "a an picture of image drawing on background white black gray"
    spoken = set(re.findall(r"\w+", " ".join(texts)))
    assert spoken <= set(re.findall(r"\w+", f"{frames} {' '.join(bank)}"))
    assert len({pair.tokens for pair in made.pairs}) >= 2


def test_a_striped_circle_without_stripes_is_a_circle(encoder: WordEncoder) -> None:
    request = ConceptRequest(concept="striped", kind="style", prompts=("a red striped circle",))
    made = plan_concept(request, encoder, vocabulary=TINY)
    assert made.pairs[0].anchor_prompt == "a red circle"


def test_vocabularies_are_checked() -> None:
    with pytest.raises(ValueError, match="expected some for 'object'"):
        Vocabulary(templates={"style": ("{c}",)}, categories={})
    with pytest.raises(
        ValueError, match=re.escape("Got template 'a photo', expected the slot {c}")
    ):
        Vocabulary(templates={"object": ("a photo",)}, categories={})
    with pytest.raises(ValueError, match=re.escape("Got template '{c} {n}'")):
        Vocabulary(templates={"object": ("{c} {n}",)}, categories={})


def test_the_bank_of_pictures_is_whole() -> None:
    words = [word for one in PICTURES.categories.values() for word in one.words]
    assert len(words) >= 200
    assert all(PICTURES.templates_for("", kind) for kind in KINDS)
    for category in PICTURES.categories.values():
        for word in category.words:
            others = [other for other in category.words if other != word]
            assert not contains(word, others), f"'{word}' contains another of its category"


def test_without_wordnet_the_plan_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "nltk", None)
    monkeypatch.setitem(sys.modules, "nltk.corpus", None)
    made = plan("cat")
    assert made.synonyms == ()
    assert "No synonyms" in made.notes[0]


def test_wordnet_is_asked_when_no_synonyms_are_given(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["cat", "true_cat", "feline", "kitty", "mouser", "tom"]
    sense = SimpleNamespace(lemma_names=lambda: names)
    corpus = ModuleType("nltk.corpus")
    corpus.wordnet = SimpleNamespace(synsets=lambda word, pos: [sense])  # type: ignore
    monkeypatch.setitem(sys.modules, "nltk", ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)
    made = plan("cat", keep=("a kitty",))
    assert made.synonyms == ("feline", "mouser")
    assert "WordNet: feline, mouser" in made.notes[0]
    assert plan("cat", synonyms=("puss",)).synonyms == ("puss",)


def test_wordnet_without_its_data_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(word: str, pos: str) -> None:
        raise LookupError("no corpus")

    corpus = ModuleType("nltk.corpus")
    corpus.wordnet = SimpleNamespace(synsets=missing)  # type: ignore
    monkeypatch.setitem(sys.modules, "nltk", ModuleType("nltk"))
    monkeypatch.setitem(sys.modules, "nltk.corpus", corpus)
    assert plan("cat").synonyms == ()
