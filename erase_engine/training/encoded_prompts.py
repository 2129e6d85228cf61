"""A concept plan as the model reads it: everything training needs from the text encoders.

Encoded once, before the loop, so that the host may free the encoders.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from ..concepts.plan import ConceptPlan, PromptPair
from ..concepts.token_positions import concept_tokens
from ..interfaces import Conditioning, TextEncoder, TokenSet

MOST_OTHERS = 48  # tokens beside the concept's: few enough to ride along with the attention


@dataclass(frozen=True)
class Contrast:
    """For each prompt pair, the same sentence about a synonym and about K irrelevant concepts."""

    synonym: Conditioning  # N rows
    synonym_tokens: Tensor  # (N, J)
    irrelevant: Conditioning  # N * K rows, the K of one sentence together
    irrelevant_tokens: Tensor  # (N * K, J)

    @property
    def per_pair(self) -> int:
        """K."""
        return len(self.irrelevant) // len(self.synonym)


@dataclass(frozen=True)
class EncodedPrompts:
    """Conditionings of a plan's prompts; row i of `concept` and of `anchor` are pair i."""

    concept: Conditioning
    anchor: Conditioning
    tokens: TokenSet  # of the concept prompts, at least one column of each sort
    keep: Conditioning
    contrast: Contrast | None


def encode_prompts(plan: ConceptPlan, encoder: TextEncoder, *, contrast: bool) -> EncodedPrompts:
    """Encodes every prompt of the plan, all padded to one length.

    `contrast` adds the sentences of the reverse self-contrast loss; None comes out where the plan
    has no irrelevant concepts.
    """
    pairs = plan.pairs
    groups = [
        [pair.concept_prompt for pair in pairs],
        [pair.anchor_prompt for pair in pairs],
        list(plan.keep),
    ]
    synonyms, unlike = _contrast_words(plan) if contrast and plan.irrelevant else ([], [])
    groups += [
        [pair.swap(word) for pair, word in zip(pairs, synonyms, strict=False)],
        [pair.swap(word) for pair, words in zip(pairs, unlike, strict=False) for word in words],
    ]
    concept, anchor, keep, synonym, irrelevant = _encode_groups(groups, encoder)
    contrasted = None
    if synonym is not None and irrelevant is not None:
        contrasted = Contrast(
            synonym,
            _located(pairs, [[word] for word in synonyms], encoder),
            irrelevant,
            _located(pairs, unlike, encoder),
        )
    return EncodedPrompts(
        concept=_some(concept),
        anchor=_some(anchor),
        tokens=TokenSet(
            concept=_padded([pair.tokens for pair in pairs]),
            context=_padded([other_tokens(encoder, pair) or (-1,) for pair in pairs]),
        ),
        keep=_some(keep),
        contrast=contrasted,
    )


def other_tokens(encoder: TextEncoder, pair: PromptPair) -> tuple[int, ...]:
    """Tokens of the concept prompt that are not the concept's; of many, those nearest to it."""
    count = min(encoder.max_tokens, len(encoder.token_ids(pair.concept_prompt)))
    others = [index for index in range(count) if index not in pair.tokens]
    nearest = sorted(others, key=lambda index: min(abs(index - own) for own in pair.tokens))
    return tuple(sorted(nearest[:MOST_OTHERS]))


def _contrast_words(plan: ConceptPlan) -> tuple[list[str], list[list[str]]]:
    """For each pair another wording of the concept, and the irrelevant concepts.

    A plan with a single wording contrasts the concept with itself: the teacher's attention to it.
    """
    synonyms = []
    for index, pair in enumerate(plan.pairs):
        others = [word for word in plan.wordings if word != pair.word] or [plan.concept]
        synonyms.append(others[index % len(others)])
    return synonyms, [list(plan.irrelevant) for _ in plan.pairs]


def _encode_groups(
    groups: Sequence[list[str]], encoder: TextEncoder
) -> tuple[Conditioning | None, ...]:
    """One conditioning for each group of prompts; None for an empty group."""
    everything = encoder.encode([prompt for group in groups for prompt in group])
    ends = [0, *accumulate(map(len, groups))]
    return tuple(
        everything.take(range(start, end)) if end > start else None for start, end in pairwise(ends)
    )


def _located(
    pairs: Sequence[PromptPair], words: Sequence[Sequence[str]], encoder: TextEncoder
) -> Tensor:
    return _padded(
        [
            concept_tokens(encoder, pair.swap(word), [word])
            for pair, group in zip(pairs, words, strict=True)
            for word in group
        ]
    )


def _padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """(N, J) with -1 where a row is shorter than the longest."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[-1] * (longest - len(row))] for row in rows])


def _some(cond: Conditioning | None) -> Conditioning:
    assert cond is not None  # a ConceptPlan has at least one pair and one keep prompt
    return cond
