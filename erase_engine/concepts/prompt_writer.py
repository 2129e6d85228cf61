"""Sentences drawn from a vocabulary's templates, every choice by a generator."""

from __future__ import annotations

import re
from collections.abc import Sequence

import torch
from torch import Generator

from .grammar import NOUN_SLOT, SLOT, contains, fill, with_article
from .request import ConceptRequest
from .vocabulary import Vocabulary


class SentenceWriter:
    """Draws sentences that name nothing erased outside the concept's slot.

    Args:
        request: what is erased, and the seed of every choice.
        vocabulary: templates, and the words for their other slots.
    """

    def __init__(self, request: ConceptRequest, vocabulary: Vocabulary) -> None:
        self.request, self.vocabulary = request, vocabulary
        self.category = vocabulary.category_of(request.wordings, request.kind)  # "" for none
        self.rng = Generator().manual_seed(request.seed)

    def frame(self, category: str) -> str:
        """A frame for concepts of this category, or of the request's kind where there is none.

        Shuffled ones move the concept to other token places: sentences of one phrase get a
        detail, so that there is something to change places with.
        """
        templates = self.vocabulary.templates_for(category, self.request.kind)
        usable = [one for one in templates if self.is_clean(one)] or [SLOT]
        phrases = pick(usable, self.rng).split(", ")
        if chance(self.request.shuffled, self.rng):
            details = [one for one in self.vocabulary.details if self.is_clean(one)]
            count = below(2, self.rng) + (1 if len(phrases) == 1 else 0)
            phrases = shuffle(phrases + shuffle(details, self.rng)[:count], self.rng)
        return self._filled(", ".join(phrases))

    def about(self, word: str) -> str:
        """A sentence about a word of the bank or, where the bank lacks it, of the same kind."""
        return fill(self.frame(self.vocabulary.category_of([word], self.request.kind)), word)

    def is_clean(self, text: str) -> bool:
        """Whether a sentence or a template is free of the erased wordings."""
        return not contains(re.sub(r"\{\w+\}", " , ", text), self.request.erased)

    def _filled(self, frame: str) -> str:
        """The frame with a word in every slot but the concept's, none of them twice."""
        while slot := re.search(r"\{(a_)?((?!c\})\w+)\}", frame.replace(NOUN_SLOT, SLOT)):
            words = [one for one in self.vocabulary.fillers[slot[2]] if self.is_clean(one)]
            unused = [one for one in words if not contains(frame, [one])] or words or ["thing"]
            word = pick(unused, self.rng)
            frame = frame.replace(slot[0], with_article(word) if slot[1] else word, 1)
        return frame


def varied(frame: str, word: str, rng: Generator) -> tuple[str, str]:
    """The frame with the word said three times, or the word misspelled."""
    if chance(0.5, rng):
        return f"{frame}, {SLOT}, {SLOT}", word
    return frame, misspelled(word, rng)


def misspelled(word: str, rng: Generator) -> str:
    """The word with two inner letters of its longest part exchanged, or one of them doubled.

    Parts of fewer than four letters stay as they are.
    """
    longest = max(re.findall(r"\w+", word), key=len)
    if len(longest) < 4:
        return word
    at = 1 + below(len(longest) - 3, rng)
    left, right = longest[at], longest[at + 1]
    wrong = f"{right}{left}{longest[at + 2 :]}" if left != right else f"{left}{longest[at:]}"
    return word.replace(longest, longest[:at] + wrong, 1)


def below(limit: int, rng: Generator) -> int:
    """A whole number from 0 to limit - 1."""
    return int(torch.randint(limit, (1,), generator=rng))


def chance(share: float, rng: Generator) -> bool:
    """True in this share of draws."""
    return float(torch.rand(1, generator=rng)) < share


def pick(options: Sequence[str], rng: Generator) -> str:
    """One of the options."""
    return options[below(len(options), rng)]


def shuffle(items: Sequence[str], rng: Generator) -> list[str]:
    """The items in another order."""
    return [items[int(index)] for index in torch.randperm(len(items), generator=rng)]
