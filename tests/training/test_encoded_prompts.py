"""A plan as the model reads it: rows in order, tokens where the words are, one length."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch

from erase_engine.concepts.plan import ConceptPlan, PromptPair
from erase_engine.concepts.token_positions import positions_in
from erase_engine.interfaces import Conditioning
from erase_engine.training.encoded_prompts import (
    MOST_OTHERS,
    EncodedPrompts,
    context_tokens,
    encode_prompts,
)

WORDS = ("", "a", "red", "star", "five", "pointed", "circle", "square", "cat", "dog", "and")


class WordEncoder:
    """A token is a word, and its feature its number."""

    max_tokens = 20

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def token_ids(self, text: str) -> list[int]:
        return [WORDS.index(word) for word in text.split()]

    def positions(self, prompt: str, span: tuple[int, int] | None = None) -> tuple[int, ...]:
        return positions_in(self.token_ids, prompt, span, self.max_tokens)

    def encode(
        self,
        prompts: Sequence[str],
        *,
        dtype: torch.dtype = torch.float32,
        on_prompt: Callable[[], None] = lambda: None,
    ) -> Conditioning:
        self.batches.append(list(prompts))
        rows = [self.token_ids(prompt) for prompt in prompts]
        length = max(map(len, rows))
        text = torch.tensor([row + [0] * (length - len(row)) for row in rows], dtype=dtype)
        for _ in rows:
            on_prompt()
        return Conditioning.stacked(text[..., None], torch.zeros(len(rows), 1, dtype=dtype))


PAIRS = (
    PromptPair("a red star", "a red circle", "star", (2,), "a red {c}"),
    PromptPair("a five pointed star", "a circle", "five pointed star", (1, 2, 3), "a {c}"),
)
PLAN = ConceptPlan(
    concept="star",
    kind="object",
    anchor="circle",
    synonyms=("five pointed star",),
    irrelevant=("cat", "square", "dog"),
    keep=("a red square", "a cat and a dog", ""),
    pairs=PAIRS,
)


@pytest.fixture
def encoder() -> WordEncoder:
    return WordEncoder()


def prompts(cond: Conditioning) -> list[str]:
    """Features read back as words."""
    return [" ".join(WORDS[int(n)] for n in row if n > 0) for row in cond.text[..., 0]]


def words_at(cond: Conditioning, tokens: torch.Tensor) -> list[str]:
    """The words that token positions point at."""
    return [
        " ".join(WORDS[int(row[i])] for i in places if i >= 0)
        for row, places in zip(cond.text[..., 0], tokens.tolist(), strict=True)
    ]


def test_row_i_is_pair_i(encoder: WordEncoder) -> None:
    encoded = encode_prompts(PLAN, encoder, contrast=False)
    assert prompts(encoded.concept) == [pair.concept_prompt for pair in PAIRS]
    assert prompts(encoded.anchor) == [pair.anchor_prompt for pair in PAIRS]
    assert prompts(encoded.keep) == list(PLAN.keep)
    assert encoded.contrast is None


def test_tokens_are_the_pairs_own_padded_with_minus_1(encoder: WordEncoder) -> None:
    encoded = encode_prompts(PLAN, encoder, contrast=False)
    assert encoded.tokens.concept.tolist() == [[2, -1, -1], [1, 2, 3]]
    assert words_at(encoded.concept, encoded.tokens.concept) == ["star", "five pointed star"]


def test_the_prompts_other_tokens_are_watched_behind_the_concepts(encoder: WordEncoder) -> None:
    encoded = encode_prompts(PLAN, encoder, contrast=False)
    assert encoded.tokens.context.tolist() == [[0, 1], [0, -1]]
    assert words_at(encoded.concept, encoded.tokens.context) == ["a red", "a"]
    tokens = encoded.tokens.take(torch.tensor([1, 0]))
    assert tokens.all.tolist() == [[1, 2, 3, 0, -1], [2, -1, -1, 0, 1]]
    assert [part.tolist() for part in tokens.split(tokens.all)] == [
        [[1, 2, 3], [2, -1, -1]],
        [[0, -1], [0, 1]],
    ]


def test_a_prompt_of_the_concept_alone_has_no_other_tokens(encoder: WordEncoder) -> None:
    alone = replace(PLAN, pairs=(PromptPair("star", "circle", "star", (0,), "{c}"),))
    assert encode_prompts(alone, encoder, contrast=False).tokens.context.tolist() == [[-1]]


def test_of_many_other_tokens_the_nearest_are_watched() -> None:
    encoder, before, after = WordEncoder(), 3, MOST_OTHERS
    encoder.max_tokens = before + 1 + after + 9
    prompt = " ".join(["red"] * before + ["star"] + ["cat"] * (after + 20))
    pair = PromptPair(prompt, "a circle", "star", (before,), "{c}")
    expected = [*range(before), *range(before + 1, before + 1 + MOST_OTHERS - before)]
    assert context_tokens(encoder, pair) == tuple(expected)
    encoder.max_tokens = before + 3
    assert context_tokens(encoder, pair) == (0, 1, 2, 4, 5)


def test_everything_is_encoded_at_once_to_one_length(encoder: WordEncoder) -> None:
    encoded = encode_prompts(PLAN, encoder, contrast=True)
    assert encoded.contrast is not None and len(encoder.batches) == 1
    parts = (encoded.concept, encoded.anchor, encoded.keep, encoded.contrast.irrelevant)
    assert {part.text.shape[1] for part in parts} == {5}


# Six sentences that have one anchor prompt, which is a keep prompt too.
REPEATED = replace(
    PLAN,
    pairs=tuple(
        PromptPair(f"a {word} star", "a circle", "star", (2,), f"a {word} {{c}}")
        for word in ("red", "five", "pointed", "square", "cat", "dog")
    ),
    keep=("a circle", "a circle and a dog"),
)


def test_a_prompt_that_comes_again_is_held_once(encoder: WordEncoder) -> None:
    encoded = encode_prompts(REPEATED, encoder, contrast=False)
    (batch,) = encoder.batches
    assert len(batch) == len(set(batch)) == 6 + 1 + 1 + len([""])
    assert len({id(prompt) for prompt in encoded.anchor.prompts}) == 1
    assert encoded.keep.prompts[0] is encoded.anchor.prompts[0]


@pytest.mark.parametrize(("dtype", "itemsize"), [(torch.float32, 4), (torch.bfloat16, 2)])
@pytest.mark.parametrize("contrast", [False, True])
def test_text_features_count_their_bytes(
    encoder: WordEncoder, dtype: torch.dtype, itemsize: int, contrast: bool
) -> None:
    encoded = encode_prompts(REPEATED, encoder, contrast=contrast, dtype=dtype)
    (batch,) = encoder.batches
    longest = max(len(text.split()) for text in batch)
    assert all(prompt.text.dtype == dtype for prompt in encoded.concept.prompts)
    numbers = len(batch) * (longest * 1 + 1)  # features one wide, and one pooled number for each
    assert encoded.nbytes == numbers * itemsize


def test_encoding_tells_how_far_it_is_and_can_be_cancelled(encoder: WordEncoder) -> None:
    told: list[int] = []

    def progress(total: int) -> Callable[[], None]:
        told.append(total)

        def on_prompt() -> None:
            told.append(-1)
            if len(told) == 6:
                raise KeyboardInterrupt

        return on_prompt

    with pytest.raises(KeyboardInterrupt):
        encode_prompts(REPEATED, encoder, contrast=False, progress=progress)
    assert told == [9, *[-1] * 5]


def contrasted(encoder: WordEncoder, plan: ConceptPlan = PLAN) -> EncodedPrompts:
    return encode_prompts(plan, encoder, contrast=True)


def test_a_sentence_is_contrasted_with_its_synonym_and_with_k_others(encoder: WordEncoder) -> None:
    contrast = contrasted(encoder).contrast
    assert contrast is not None and contrast.per_pair == 3
    assert prompts(contrast.synonym) == ["a red five pointed star", "a star"]
    assert prompts(contrast.irrelevant) == [
        *("a red cat", "a red square", "a red dog"),
        *("a cat", "a square", "a dog"),
    ]
    assert words_at(contrast.synonym, contrast.synonym_tokens) == ["five pointed star", "star"]
    assert words_at(contrast.irrelevant, contrast.irrelevant_tokens) == [
        *("cat", "square", "dog") * 2
    ]


def test_without_synonyms_a_concept_is_contrasted_with_itself(encoder: WordEncoder) -> None:
    contrast = contrasted(encoder, replace(PLAN, synonyms=(), pairs=PAIRS[:1])).contrast
    assert contrast is not None
    assert prompts(contrast.synonym) == ["a red star"]


def test_without_irrelevant_words_there_is_no_contrast(encoder: WordEncoder) -> None:
    encoded = contrasted(encoder, replace(PLAN, irrelevant=()))
    assert encoded.contrast is None and len(encoded.concept) == 2
