"""Words for other worlds, and none from elsewhere."""

from __future__ import annotations

import re
import sys
from pathlib import Path

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


def test_without_synonyms_the_plan_says_so() -> None:
    made = plan("cat")
    assert made.synonyms == () and made.notes[0].startswith("No synonyms were given.")
    assert not any("synonyms" in note for note in plan("cat", synonyms=("puss",)).notes)


def test_the_plan_is_the_same_where_a_wordnet_package_is_installed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = plan("cat")
    package = tmp_path / "nltk"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "corpus.py").write_text(
        "from types import SimpleNamespace\n"
        "sense = SimpleNamespace(lemma_names=lambda: ['cat', 'true_cat', 'feline'])\n"
        "wordnet = SimpleNamespace(synsets=lambda word, pos: [sense])\n"
    )
    for name in ("nltk", "nltk.corpus"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    assert plan("cat") == expected
    assert "nltk" not in sys.modules
