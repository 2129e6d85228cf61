"""An encoder that splits at words, a small vocabulary, and plans made with both."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from erase_engine.concepts.plan import ConceptPlan
from erase_engine.concepts.planner import plan_concept
from erase_engine.concepts.request import ConceptRequest
from erase_engine.concepts.token_positions import positions_in
from erase_engine.concepts.vocabulary import Category, Kind, Vocabulary
from erase_engine.interfaces import TextPart


class WordEncoder:
    """Tokens are marks and words, cut after six letters; a vector counts a text's letters."""

    def __init__(self, max_tokens: int = 64) -> None:
        self.max_tokens = max_tokens
        self.known: dict[str, int] = {}
        self.compared: list[str] = []
        self.asked: list[str] = []  # prompts whose positions were wanted

    def pieces(self, text: str) -> list[str]:
        words = re.findall(r"\w+|[^\w\s]", text)
        return [word[at : at + 6] for word in words for at in range(0, len(word), 6)]

    def token_ids(self, text: str) -> list[int]:
        return [self.known.setdefault(piece, len(self.known)) for piece in self.pieces(text)]

    def parts(self, text: str, length: int) -> tuple[TextPart, ...]:
        ids = self.token_ids(text)
        count = min(len(ids), self.max_tokens, length - 1)
        places = tuple(range(count))
        return (TextPart(tuple(ids[:count]), places, (count,), tuple(range(count + 1, length))),)

    def positions(self, prompt: str, span: tuple[int, int] | None = None) -> tuple[int, ...]:
        self.asked.append(prompt)
        return positions_in(self.token_ids, prompt, span, self.max_tokens)

    def vectors(
        self, texts: Sequence[str], *, on_text: Callable[[], None] = lambda: None
    ) -> Tensor:
        counts = torch.zeros(len(texts), 128)
        for row, text in enumerate(texts):
            self.compared.append(text)
            for letter in text.lower():
                counts[row, ord(letter) % 128] += 1
            on_text()
        return counts


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


def plan(concept: str, kind: Kind = "object", **fields: object) -> ConceptPlan:
    request = ConceptRequest(concept=concept, kind=kind, **fields)  # type: ignore
    return plan_concept(request, WordEncoder())
