"""What a closed form is solved on: text features of a plan, token by token."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..concepts.plan import ConceptPlan
from ..interfaces import Conditioning, TextEncoder
from .stand_ins import ITSELF, read_tokens, stand_ins

AT_ONCE = 16  # held sentences that are encoded together: of each only some rows are kept


@dataclass(frozen=True)
class Features:
    """Rows of one kind of text features: tokens, or pooled vectors."""

    concept: Tensor  # (N, n)
    anchor: Tensor  # (N, n) what each of them is to become
    own: Tensor  # (N,) bool: a token of the concept itself
    held: Tensor  # (M, n) what is to stay


@dataclass(frozen=True)
class TextRows:
    """Features of all prompts of a plan, on the CPU, in the dtype they were encoded in."""

    text: Features
    pooled: Features | None

    @property
    def tensors(self) -> list[Tensor]:
        """All of them, in one order."""
        kinds = [kind for kind in (self.text, self.pooled) if kind is not None]
        return [each for kind in kinds for each in vars(kind).values()]


def text_rows(
    plan: ConceptPlan,
    encoder: TextEncoder,
    encoded: Mapping[str, Conditioning],
    *,
    on_prompt: Callable[[], None] = lambda: None,
) -> TextRows:
    """Rows of the plan's prompts, and of its held sentences, which are encoded here.

    Held are the keep prompts, those sentences, and the anchors' prompts.

    Args:
        encoded: the plan's "concept", "anchor" and "keep" prompts.
        on_prompt: called after each held sentence; may raise to cancel.
    """
    held = _Held(encoder)
    held.add(plan.keep, encoded["keep"])
    dtype = encoded["keep"].prompts[0].text.dtype
    for start in range(0, len(plan.held), AT_ONCE):
        some = plan.held[start : start + AT_ONCE]
        held.add(some, encoder.encode(some, dtype=dtype, on_prompt=on_prompt))
    held.add([pair.anchor_prompt for pair in plan.pairs], encoded["anchor"])
    return TextRows(_token_rows(plan, encoder, encoded, held), _pooled_rows(encoded, held))


class _Held:
    """Rows of prompts that stay."""

    def __init__(self, encoder: TextEncoder) -> None:
        self._encoder = encoder
        self.text: list[Tensor] = []
        self.pooled: list[Tensor] = []

    def add(self, texts: Sequence[str], encoded: Conditioning) -> None:
        """Copies what is needed of each: its other padding may be freed."""
        for text, prompt in zip(texts, encoded.prompts, strict=True):
            read = read_tokens(len(self._encoder.token_ids(text)), len(prompt.text))
            self.text.append(prompt.text[read])
            if prompt.pooled is not None:
                self.pooled.append(prompt.pooled.clone())


def _token_rows(
    plan: ConceptPlan, encoder: TextEncoder, encoded: Mapping[str, Conditioning], held: _Held
) -> Features:
    common = {token for prompt in plan.keep for token in encoder.token_ids(prompt)}
    concept, anchor, own = [], [], []
    prompts = zip(encoded["concept"].prompts, encoded["anchor"].prompts, strict=True)
    for pair, (before, after) in zip(plan.pairs, prompts, strict=True):
        said, instead = map(encoder.token_ids, (pair.concept_prompt, pair.anchor_prompt))
        length = min(len(before.text), len(after.text))
        found = stand_ins(said, instead, length, own=pair.tokens, common=common)
        x, stays = before.text[found.tokens], (found.becomes == ITSELF)[:, None]
        concept.append(x)
        anchor.append(torch.where(stays, x, after.text[found.becomes]))
        own.append(found.own)
    return Features(*map(torch.cat, (concept, anchor, own, held.text)))


def _pooled_rows(encoded: Mapping[str, Conditioning], held: _Held) -> Features | None:
    concept, anchor = encoded["concept"].pooled, encoded["anchor"].pooled
    if concept is None or anchor is None:
        return None
    own = torch.ones(len(concept), dtype=torch.bool)
    return Features(concept, anchor, own, torch.stack(held.pooled))
