"""The concept plan: sentences are right, one seed gives one plan, contradictions are refused."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
import torch
from word_encoder import TINY, WordEncoder, plan

from erase_engine.concepts.everyday import PICTURES
from erase_engine.concepts.grammar import contains
from erase_engine.concepts.plan import ConceptPlan
from erase_engine.concepts.planner import MOST_COMPARED, plan_concept, rank_by_similarity
from erase_engine.concepts.prompt_writer import misspelled
from erase_engine.concepts.request import ConceptRequest
from erase_engine.concepts.vocabulary import Kind

EXAMPLES: list[tuple[str, Kind, dict[str, object]]] = [
    ("cat", "object", {"synonyms": ("kitten", "feline")}),
    ("Siamese cat", "object", {}),
    ("stop signs", "object", {"replacement": "a tree"}),
    ("painting", "object", {}),
    ("Van Gogh", "style", {}),
    ("red", "style", {"synonyms": ("crimson",)}),
    ("Elon Musk", "person", {}),
    ("person", "person", {}),
    ("shaking hands with", "relation", {}),
    ("nude", "nudity", {"synonyms": ("naked",), "prompts": ("a Nude, standing", "two nudes")}),
]


@pytest.mark.parametrize(("concept", "kind", "fields"), EXAMPLES)
def test_what_holds_for_every_plan(concept: str, kind: Kind, fields: dict[str, object]) -> None:
    made = plan(concept, kind, varied=0.2, **fields)
    encoder = WordEncoder()
    assert len(made.pairs) >= 48
    assert "" in made.keep and len(set(made.keep)) == len(made.keep)
    for pair in made.pairs:
        assert pair.word and contains(pair.concept_prompt, [pair.word])
        assert not contains(pair.anchor_prompt, made.wordings)
        assert pair.anchor_prompt == pair.swap(made.anchor)
        for text in (pair.concept_prompt, pair.anchor_prompt):
            assert text == " ".join(text.split())
            assert not re.search(r"[{}\0]|,\s*,|^,|,$|\ba an?\b|\ba [aeio]", text), text
    assert not any(contains(text, made.wordings) for text in (*made.keep, *made.irrelevant))
    assert len(set(made.irrelevant) - {made.anchor}) == 3
    assert made.located(encoder) == made
    assert ConceptPlan.from_json(made.to_json()) == made


@pytest.mark.parametrize(("concept", "kind", "fields"), EXAMPLES)
def test_the_words_tokens_spell_the_word(
    concept: str, kind: Kind, fields: dict[str, object]
) -> None:
    encoder = WordEncoder()
    for pair in plan(concept, kind, varied=0.0, **fields).pairs:
        pieces = encoder.pieces(pair.concept_prompt)
        said = "".join(pieces[index] for index in pair.tokens).lower()
        once = pair.word.replace(" ", "").lower()
        assert re.fullmatch(f"({once}s?)+|{once.removesuffix('s')}", said)


def test_one_seed_one_plan() -> None:
    first, again, other = plan("cat"), plan("cat"), plan("cat", seed=1)
    assert first == again
    assert first.to_json() == again.to_json()
    assert first.pairs != other.pairs
    torch.manual_seed(99)
    assert plan("cat") == first


def test_planning_leaves_global_randomness_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    plan("cat")
    assert torch.equal(torch.rand(3), expected)


def test_shuffling_moves_the_concept_to_other_tokens() -> None:
    vocabulary = replace(PICTURES, templates={"object": ("a photo of {a_c}, at night",)})

    def starts(shuffled: float) -> list[int]:
        request = ConceptRequest(concept="cat", shuffled=shuffled, varied=0.0, pairs=200)
        pairs = plan_concept(request, WordEncoder(), vocabulary=vocabulary).pairs
        return [pair.tokens[0] for pair in pairs]

    assert set(starts(0.0)) == {4}
    moved = starts(1.0)
    assert len(set(moved)) >= 5
    assert sum(at != 4 for at in moved) > len(moved) / 2


def test_no_two_pairs_say_the_same() -> None:
    pairs = plan("cat", pairs=150).pairs
    assert len({pair.concept_prompt for pair in pairs}) == len(pairs) == 150


def test_synonyms_take_turns_with_the_concept() -> None:
    words = [pair.word for pair in plan("cat", synonyms=("kitten", "feline"), varied=0.0).pairs]
    assert words.count("cat") >= 20
    assert words.count("kitten") >= 8 and words.count("feline") >= 8


def test_variants_are_a_share_and_can_be_turned_off() -> None:
    def variants(varied: float) -> int:
        pairs = plan("elephant", varied=varied, pairs=200).pairs
        return sum(pair.word != "elephant" or pair.frame.count("c}") > 1 for pair in pairs)

    assert variants(0.0) == 0
    assert 20 < variants(0.2) < 70


def test_misspellings_are_near_and_never_the_word() -> None:
    rng = torch.Generator().manual_seed(0)
    for word in ("elephant", "Van Gogh", "balloon", "cat"):
        for _ in range(20):
            wrong = misspelled(word, rng)
            assert (wrong == word) is (word == "cat")
            assert wrong[0] == word[0] and abs(len(wrong) - len(word)) <= 1


def test_own_prompts_come_first_and_as_written() -> None:
    prompts = ("A Cat, on a mat", "two cats", "cat and kitten")
    made = plan("cat", synonyms=("kitten",), replacement="dog", prompts=prompts)
    texts = [pair.concept_prompt for pair in made.pairs]
    assert texts[:5] == [prompts[0], "a kitten, on a mat", prompts[1], "two kitten", prompts[2]]
    assert made.pairs[0].anchor_prompt == "a dog, on a mat"
    assert made.pairs[4].anchor_prompt == "dog and dog"
    assert made.pairs[4].tokens == (0, 2)


def test_swapping_changes_only_the_word() -> None:
    for pair in plan("cat", varied=0.0).pairs:
        swapped = pair.swap("dog")
        assert re.sub("dog", "cat", swapped) == pair.concept_prompt


@pytest.mark.parametrize(
    ("concept", "kind", "anchor"),
    [
        ("Van Gogh", "style", ""),
        ("some unheard-of thing", "object", ""),
        ("Elon Musk", "person", "a person"),
        ("woman", "person", "man"),
        ("nude", "nudity", "fully clothed"),
        ("nudity", "nudity", "modest clothing"),
        ("above", "relation", "below"),
        ("holding", "relation", "next to"),
    ],
)
def test_what_stands_in(concept: str, kind: Kind, anchor: str) -> None:
    made = plan(concept, kind)
    assert made.anchor == anchor
    assert anchor in made.notes[-1]


@pytest.mark.parametrize(
    ("concept", "kind", "category"),
    [("cat", "object", "animal"), ("orange", "object", "food"), ("orange", "style", "colour")],
)
def test_a_known_concept_gives_way_to_another_of_its_category(
    concept: str, kind: Kind, category: str
) -> None:
    words = [word for word in PICTURES.categories[category].words if word != concept]
    ranked = rank_by_similarity(concept, words, WordEncoder())
    anchor = plan(concept, kind).anchor
    assert anchor in ranked[1:-1]  # neither so near that it still shows the concept, nor farthest
    place = ranked.index(anchor) / len(ranked)
    assert 0.3 < place < 0.7


def test_a_neighbour_never_shows_the_concept() -> None:
    assert plan("Siamese cat").anchor not in ("", "cat")
    assert plan("pine tree", replacement="rose").anchor == "rose"


def test_irrelevant_concepts_run_from_far_to_near(encoder: WordEncoder) -> None:
    made = plan("cat", replacement="a lamp", synonyms=("lion",))
    ranked = rank_by_similarity("cat", made.irrelevant, encoder)
    assert ranked == made.irrelevant[::-1]
    assert not {"cat", "lion", "lamp"} & set(made.irrelevant)


def test_ranking_is_by_similarity_of_vectors(encoder: WordEncoder) -> None:
    assert rank_by_similarity("abc", ["xyz", "abd", "cab"], encoder) == ("cab", "abd", "xyz")
    assert rank_by_similarity("abc", [], encoder) == ()
    assert rank_by_similarity("abc", ["cab", "bca"], encoder) == ("cab", "bca")
    encoder.compared.clear()
    plan_concept(ConceptRequest(concept="cat"), encoder)
    assert len(encoder.compared) == len(set(encoder.compared)) == MOST_COMPARED


def test_every_sentence_is_located_once(encoder: WordEncoder) -> None:
    prompts = ("a red cat", "the cat sleeps")
    request = ConceptRequest(concept="cat", synonyms=("kitten",), prompts=prompts, varied=0.0)
    made = plan_concept(request, encoder)
    assert sorted(encoder.asked) == sorted(pair.concept_prompt for pair in made.pairs)


def test_planning_can_be_cancelled(encoder: WordEncoder) -> None:
    def cancel() -> None:
        if len(encoder.compared) == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        plan_concept(ConceptRequest(concept="cat"), encoder, on_text=cancel)
    assert len(encoder.compared) == 5


def test_bare_keep_words_get_sentences_and_prompts_stay() -> None:
    made = plan("cat", keep=("dog", "a grey dog, asleep", "Van Gogh", "two old men play chess"))
    assert "a grey dog, asleep" in made.keep and "two old men play chess" in made.keep
    about = [[text for text in made.keep if word in text] for word in ("dog", "Van Gogh")]
    assert all(len(texts) >= 2 for texts in about)
    assert made.keep[-1] == ""
    assert any(pair.anchor_prompt in made.keep for pair in made.pairs)
    assert all(any(word in text for text in made.keep) for word in made.irrelevant)


@pytest.mark.parametrize(("concept", "kind"), [("star", "object"), ("pink", "style")])
def test_every_neighbour_is_kept_in_two_sentences(concept: str, kind: Kind) -> None:
    """What shares the concept's category is what its erasure harms first."""
    made = plan_concept(ConceptRequest(concept=concept, kind=kind), WordEncoder(), vocabulary=TINY)
    category = TINY.categories[TINY.category_of([concept], kind)]
    for word in set(category.words) - {concept, made.anchor}:
        assert sum(contains(prompt, [word]) for prompt in made.keep) >= 2, word
