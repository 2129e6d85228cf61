"""The concept plan: sentences are right, tokens are found, contradictions are refused."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from types import ModuleType, SimpleNamespace

import pytest
import torch

from erase_engine.concepts.everyday import PICTURES
from erase_engine.concepts.grammar import contains, fill, frame_of, words_elsewhere, words_of
from erase_engine.concepts.plan import ConceptPlan
from erase_engine.concepts.planner import plan_concept, rank_by_similarity
from erase_engine.concepts.prompt_writer import misspelled
from erase_engine.concepts.request import ConceptRequest
from erase_engine.concepts.token_positions import concept_tokens
from erase_engine.concepts.vocabulary import KINDS, Category, Kind, Vocabulary
from erase_engine.interfaces import Conditioning


class WordEncoder:
    """Tokens are marks and words, cut after six letters; a vector counts a text's letters."""

    def __init__(self, max_tokens: int = 64) -> None:
        self.max_tokens = max_tokens
        self.known: dict[str, int] = {}
        self.encoded: list[str] = []

    def pieces(self, text: str) -> list[str]:
        words = re.findall(r"\w+|[^\w\s]", text)
        return [word[at : at + 6] for word in words for at in range(0, len(word), 6)]

    def token_ids(self, text: str) -> list[int]:
        return [self.known.setdefault(piece, len(self.known)) for piece in self.pieces(text)]

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        self.encoded += prompts
        pooled = torch.zeros(len(prompts), 128)
        for row, prompt in enumerate(prompts):
            for letter in prompt.lower():
                pooled[row, ord(letter) % 128] += 1
        return Conditioning.stacked(torch.zeros(len(prompts), self.max_tokens, 4), pooled)


TINY = Vocabulary(
    templates={
        "object": (
            "a picture of {a_c}",
            "a {adjective} {c}",
            "{a_c} on a {background} background",
            "an image of a {adjective} {shape} {relation} a {adjective} {c}",
            "{background} background, {a_c}",
        ),
        "style": (
            "a {c} {shape}",
            "a picture of a {c} {shape}",
            "a drawing of a {shape} {relation} a {c} {shape}",
            "a {c} {shape} on a {background} background",
        ),
        "relation": ("a {shape} {c} a {shape}", "a picture of a {shape} {c} a {shape}"),
    },
    categories={
        "shape": Category("object", ("circle", "square", "triangle", "star", "cross", "heart")),
        "colour": Category("style", ("red", "blue", "green", "orange", "pink")),
        "style": Category("style", ("striped", "dotted", "checkered"), plain=True),
        "relation": Category("relation", ("above", "below", "left of", "right of", "inside")),
    },
    fillers={
        "shape": ("circle", "square", "triangle", "star", "cross", "heart"),
        "adjective": ("red", "blue", "orange", "striped", "dotted"),
        "background": ("white", "black", "gray"),
        "relation": ("above", "below"),
    },
    opposites={"above": "below"},
)


@pytest.fixture
def encoder() -> WordEncoder:
    return WordEncoder()


def plan(concept: str, kind: Kind = "object", **fields: object) -> ConceptPlan:
    request = ConceptRequest(concept=concept, kind=kind, **fields)  # type: ignore
    return plan_concept(request, WordEncoder())


# Sentences


@pytest.mark.parametrize(
    ("frame", "word", "sentence"),
    [
        ("a photo of {a_c}", "apple", "a photo of an apple"),
        ("a photo of {a_c}", "apples", "a photo of apples"),
        ("a photo of {a_c}", "bus", "a photo of a bus"),
        ("a photo of {a_c}", "unicorn", "a photo of a unicorn"),
        ("a photo of {a_c}", "Van Gogh", "a photo of Van Gogh"),
        ("a photo of {a_c}", "a person", "a photo of a person"),
        ("a photo of {a_c}", "snow", "a photo of snow"),
        ("A {c} house", "orange", "An orange house"),
        ("an {c} house", "red", "a red house"),
        ("an old {c} sits", "a person", "an old person sits"),
        ("the {c} sits", "a person", "the person sits"),
        ("a house in {c} style", "Van Gogh style", "a house in Van Gogh style"),
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


# Tokens


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
        "Concept 'nude' is not in the prompt 'a cat'. "
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
        ValueError, match=r"Concept 'cat' is cut off in the prompt 'a b c d cat'.*4"
    ):
        concept_tokens(encoder, "a b c d cat", ["cat"])
    with pytest.raises(ValueError, match="cut off"):
        concept_tokens(encoder, "a b c elephant", ["elephant"])


def test_a_users_prompt_that_is_cut_off_is_an_error() -> None:
    request = ConceptRequest(concept="cat", prompts=("many words here come before the cat",))
    encoder = WordEncoder(max_tokens=5)
    with pytest.raises(ValueError, match="cut off in the prompt 'many words"):
        plan_concept(request, encoder)
    assert encoder.encoded == []  # said before any work


def test_a_concept_longer_than_the_limit_is_named() -> None:
    with pytest.raises(ValueError, match="Concept 'b c d e f' has 5 tokens, expected at most 4"):
        plan_concept(ConceptRequest(concept="b c d e f"), WordEncoder(max_tokens=4))


# Requests


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"concept": ""}, "Got the concept '', expected at least one letter"),
        ({"concept": "  \n "}, "Got the concept '', expected at least one letter"),
        ({"concept": "!?"}, "Got the concept '!?', expected at least one letter"),
        ({"concept": "a\x00b"}, "Got the control character '\\x00' in concept 'a\\x00b'"),
        ({"concept": "a\ud800b"}, "Got the control character '\\ud800' in concept"),
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


# Plans

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


# Anchors


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


def test_ranking_is_by_pooled_similarity_in_small_batches(encoder: WordEncoder) -> None:
    assert rank_by_similarity("abc", ["xyz", "abd", "cab"], encoder) == ("cab", "abd", "xyz")
    assert rank_by_similarity("abc", [], encoder) == ()
    assert rank_by_similarity("abc", ["cab", "bca"], encoder) == ("cab", "bca")
    plan_concept(ConceptRequest(concept="cat"), encoder)
    assert len(encoder.encoded) < 100


# Keeping


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


# The tiny world


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


# WordNet


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


# The plan as data


def test_the_plan_reads_as_text() -> None:
    text = plan("cat", synonyms=("kitten",)).describe()
    for part in ("Erase: cat (object)", "Also erase: kitten", "Instead: ", "Contrast with: "):
        assert part in text
    assert "nothing, the words are left out" in plan("Van Gogh", "style").describe()


def test_edited_prompts_are_located_anew(encoder: WordEncoder) -> None:
    made = plan("cat")
    edited = replace(made, pairs=(replace(made.pairs[0], concept_prompt="oh, cat", word="cat"),))
    assert edited.located(encoder).pairs[0].tokens == (2,)
    lost = replace(made, pairs=(replace(made.pairs[0], concept_prompt="oh", word="cat"),))
    with pytest.raises(ValueError, match="Concept 'cat' is not in the prompt 'oh'"):
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
        ('{"concepts": "cat"}', "Got concepts for ConceptPlan"),
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
        ({"keep": [3]}, "Got a plan with a value of the wrong type"),
        ({"keep": None}, "Got a plan with a value of the wrong type"),
        ({"concept": None}, "Got words None, expected text"),
        ({"concept": ""}, "Got the concept '', expected"),
        ({"anchor": 3}, "Got words 3, expected text"),
        ({"synonyms": [3]}, "Got words 3, expected text"),
        ({"kind": []}, "Got kind (), expected one of object"),
        ({"pairs": [], "keep": []}, "with 0 prompt pairs and 0 keep prompts"),
    ],
)
def test_json_edited_by_hand(fields: dict[str, object], says: str) -> None:
    values = {**json.loads(plan("cat").to_json()), **fields}
    with pytest.raises(ValueError, match=re.escape(says)):
        ConceptPlan.from_json(json.dumps(values))


@pytest.mark.parametrize("tokens", [(), (3, 2), (1, 1), (-1,)])
def test_a_pair_has_tokens_in_order(tokens: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="expected at least one, rising"):
        replace(plan("cat").pairs[0], tokens=tokens)


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
