"""A concept plan as the model reads it: everything training needs from the text encoders.

Encoded once, before the loop, so that the host may free the encoders.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor

from ..closed_form.text_rows import TextRows, text_rows
from ..concepts.plan import ConceptPlan, PromptPair
from ..concepts.token_positions import concept_tokens
from ..concepts.vocabulary import Kind
from ..config import EraseConfig
from ..interfaces import Conditioning, Prompt, TextEncoder, TokenSet

MOST_OTHERS = 48  # tokens beside the concept's: few enough to ride along with the attention

Progress = Callable[[int], Callable[[], None]]  # of how many -> to be called after each


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
    """Conditionings of a plan's prompts; row i of `concept` and of `anchor` are pair i.

    `pictures` are in model space. Where they are more than the keep prompts, these begin anew.
    """

    concept: Conditioning
    anchor: Conditioning
    tokens: TokenSet  # of the concept prompts, at least one column of each sort
    keep: Conditioning
    unconditional: Prompt  # of no words: what guidance leads away from
    contrast: Contrast | None
    pictures: Tensor | None = None  # (N, C, h, w) latents to keep; picture i shows keep prompt i
    entrance: TextRows | None = None  # what a closed form is solved on
    concepts: int = 1  # that the plan erases
    kind: Kind = "object"  # of these

    @property
    def prompts(self) -> list[Prompt]:
        """All of them, each once: rows that share a prompt hold it once."""
        contrast = (self.contrast.synonym, self.contrast.irrelevant) if self.contrast else ()
        parts = (self.concept, self.anchor, self.keep, *contrast)
        every = (*(prompt for part in parts for prompt in part.prompts), self.unconditional)
        return list({id(prompt): prompt for prompt in every}.values())

    @property
    def nbytes(self) -> int:
        """Bytes of all text features and pictures."""
        features = ((prompt.text, prompt.pooled) for prompt in self.prompts)
        rows = self.entrance.tensors if self.entrance else ()
        tensors = (*chain.from_iterable(features), self.pictures, *rows)
        return sum(each.nbytes for each in tensors if each is not None)

    @property
    def longest(self) -> Prompt:
        """The prompt with most tokens."""
        return max(self.prompts, key=lambda prompt: len(prompt.text))


def needed_by(config: EraseConfig) -> dict[str, bool]:
    """What of `encode_prompts` a training with this config looks at."""
    return {"contrast": config.weights.rsc > 0, "solve": config.solver == "solve"}


def encode_prompts(
    plan: ConceptPlan,
    encoder: TextEncoder,
    *,
    contrast: bool,
    solve: bool = False,
    dtype: torch.dtype = torch.float32,
    progress: Progress = lambda total: lambda: None,
) -> EncodedPrompts:
    """Encodes every distinct prompt of the plan once, in one call of the encoder.

    Args:
        plan: its prompts, with the concept's tokens in them.
        encoder: the loaded text encoder.
        contrast: add the sentences of the reverse self-contrast loss; None comes out where the
            plan has no irrelevant concepts.
        solve: add what the closed form is solved on, for which the held sentences are encoded, too.
        dtype: what the features are kept in: the model's compute dtype loses nothing.
        progress: told how many prompts there are; what it gives is called after each and may raise
            to cancel.
    """
    groups = _groups(plan, contrast=contrast)
    said = [text for text, _ in chain.from_iterable(groups.values())]
    texts = list(dict.fromkeys([*said, ""]))
    on_prompt = progress(len(texts) + (len(plan.held) if solve else 0))
    rows = encoder.encode(texts, dtype=dtype, on_prompt=on_prompt).prompts
    by_text = dict(zip(texts, rows, strict=True))
    conds = {
        name: Conditioning(tuple(by_text[text] for text, _ in sentences))
        for name, sentences in groups.items()
    }
    contrasted = None
    if "synonym" in groups:
        synonyms, irrelevant = (
            padded([concept_tokens(encoder, text, [word]) for text, word in groups[name]])
            for name in ("synonym", "irrelevant")
        )
        contrasted = Contrast(conds["synonym"], synonyms, conds["irrelevant"], irrelevant)
    tokens = TokenSet(
        concept=padded([pair.tokens for pair in plan.pairs]),
        context=padded([context_tokens(encoder, pair) or (-1,) for pair in plan.pairs]),
    )
    entrance = text_rows(plan, encoder, conds, on_prompt=on_prompt) if solve else None
    return EncodedPrompts(
        conds["concept"],
        conds["anchor"],
        tokens,
        conds["keep"],
        by_text[""],
        contrasted,
        entrance=entrance,
        concepts=plan.concepts,
        kind=plan.kind,
    )


def context_tokens(encoder: TextEncoder, pair: PromptPair) -> tuple[int, ...]:
    """Tokens of the concept prompt that are not the concept's; of many, those nearest to it."""
    others = [index for index in encoder.positions(pair.concept_prompt) if index not in pair.tokens]
    nearest = sorted(others, key=lambda index: min(abs(index - own) for own in pair.tokens))
    return tuple(sorted(nearest[:MOST_OTHERS]))


def padded(rows: Sequence[Sequence[int]]) -> Tensor:
    """(N, J) with -1 where a row is shorter than the longest."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[-1] * (longest - len(row))] for row in rows])


def _groups(plan: ConceptPlan, *, contrast: bool) -> dict[str, list[tuple[str, str]]]:
    """The plan's prompts by what they are for, each with the word that it is about.

    A plan with a single wording contrasts the concept with itself: the teacher's attention to it.
    """
    groups = {
        "concept": [(pair.concept_prompt, pair.word) for pair in plan.pairs],
        "anchor": [(pair.anchor_prompt, plan.anchor) for pair in plan.pairs],
        "keep": [(prompt, "") for prompt in plan.keep],
    }
    if contrast and plan.irrelevant:
        synonyms = []
        for index, pair in enumerate(plan.pairs):
            others = [word for word in plan.wordings if word != pair.word] or [plan.concept]
            synonyms.append(others[index % len(others)])
        said = zip(plan.pairs, synonyms, strict=True)
        groups["synonym"] = [(pair.swap(word), word) for pair, word in said]
        groups["irrelevant"] = [
            (pair.swap(word), word) for pair in plan.pairs for word in plan.irrelevant
        ]
    return groups
