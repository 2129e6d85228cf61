"""What a closed form is solved on: text features of a plan, token by token."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..concepts.plan import ConceptPlan
from ..interfaces import Conditioning, TextEncoder, TextPart
from .stand_ins import ITSELF, StandIns, read_tokens, stand_ins

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
        self._head = False  # held already

    def add(self, texts: Sequence[str], encoded: Conditioning) -> None:
        """Copies what is needed of each: its other padding may be freed."""
        for text, prompt in zip(texts, encoded.prompts, strict=True):
            for part in self._encoder.parts(text, len(prompt.text)):
                order = part.order
                read = read_tokens(len(part.places) + len(part.marks), len(order))
                self.text.append(prompt.text[order[read]])
                if part.head and not self._head:
                    self._head = True
                    self.text.append(prompt.text[list(part.head)])
            if prompt.pooled is not None:
                self.pooled.append(prompt.pooled.clone())


def _token_rows(
    plan: ConceptPlan, encoder: TextEncoder, encoded: Mapping[str, Conditioning], held: _Held
) -> Features:
    kept = [
        encoder.parts(text, len(prompt.text))
        for text, prompt in zip(plan.keep, encoded["keep"].prompts, strict=True)
    ]
    common = [{token for part in each for token in part.ids} for each in zip(*kept, strict=True)]
    concept, anchor, own = [], [], []
    prompts = zip(encoded["concept"].prompts, encoded["anchor"].prompts, strict=True)
    for pair, (before, after) in zip(plan.pairs, prompts, strict=True):
        said = encoder.parts(pair.concept_prompt, len(before.text))
        instead = encoder.parts(pair.anchor_prompt, len(after.text))
        for part, other, ids in zip(said, instead, common, strict=True):
            found = _stand_ins(part, other, own=pair.tokens, common=ids)
            x = before.text[part.order[found.tokens]]
            stays = (found.becomes == ITSELF)[:, None]
            concept.append(x)
            anchor.append(torch.where(stays, x, after.text[other.order[found.becomes]]))
            own.append(found.own)
    return Features(*map(torch.cat, (concept, anchor, own, held.text)))


def _stand_ins(
    part: TextPart, other: TextPart, *, own: Collection[int], common: Collection[int]
) -> StandIns:
    """`stand_ins` of one part of both texts; `own` are positions in the model's text."""
    return stand_ins(
        part.ids,
        other.ids,
        (len(part.order), len(other.order)),
        own=[at for at, place in enumerate(part.places) if place in own],
        common=common,
        marks=min(len(part.marks), len(other.marks)),
    )


def _pooled_rows(encoded: Mapping[str, Conditioning], held: _Held) -> Features | None:
    concept, anchor = encoded["concept"].pooled, encoded["anchor"].pooled
    if concept is None or anchor is None:
        return None
    own = torch.ones(len(concept), dtype=torch.bool)
    return Features(concept, anchor, own, torch.stack(held.pooled))
