"""Sentences drawn from a vocabulary's templates, every choice by a generator."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import TypeVar

import torch
from torch import Generator

from .grammar import NOUN_SLOT, SLOT, contains, fill, is_adjective, pattern_of, with_article
from .phrases import Phrase, phrase_of
from .request import ConceptRequest
from .vocabulary import Kind, Vocabulary, without_slots

T = TypeVar("T")


class SentenceWriter:
    """Draws sentences that name nothing erased outside the concept's slot.

    Args:
        request: what is erased, and the seed of every choice.
        vocabulary: templates, and the words for their other slots.
    """

    def __init__(self, request: ConceptRequest, vocabulary: Vocabulary) -> None:
        self.request, self.vocabulary = request, vocabulary
        self.category = vocabulary.category_of(request.wordings, request.kind)  # "" for none
        self.phrase = phrase_of(request.concept, request.kind, vocabulary)
        # Two things and how they stand are a scene, which stands in sentences as a thing does.
        self.kind: Kind = "object" if self.phrase and self.phrase.relates else request.kind
        phrases = (phrase_of(word, request.kind, vocabulary) for word in request.erased)
        patterns = [pattern_of(request.erased), *(one.pattern for one in phrases if one)]
        self.erased = "|".join(patterns)  # a regular expression, of any case
        self.rng = Generator().manual_seed(request.seed)

    def own_frame(self, *phrases: Phrase, word: str = "", bare: bool = True) -> str:
        """A frame for the concept; no slot of it says again what the concept says.

        Where `phrases` are to stand in it, none says what they say. It fits the concept said as
        `word`; if not `bare`, it says more than the concept.
        """
        phrase, vocabulary = self.phrase, self.vocabulary
        templates = self.usable(vocabulary.templates_for(self.category, self.kind))
        noun = self.kind == "nudity" and word and not phrase and not is_adjective(word)
        templates = [
            one
            for one in templates
            if (bare or one != SLOT) and not (noun and re.search(r"\{c\} \{", one))
        ] or templates
        if not phrase:
            return self.drawn(pick(templates, self.rng))
        said = [word for one in phrases or (phrase,) for word in one.known]
        filled = vocabulary.slots_with(phrase.known)
        opened = [
            without_slots(template, filled)
            for template in templates
            if not (phrase.relates and vocabulary.relates(template))
        ]
        return self.drawn(pick(opened or [SLOT], self.rng), said)

    def in_words(self, frame: str, *phrases: Phrase) -> tuple[str, ...]:
        """The phrases in words, three of four times with the same others before their last.

        Those are words of slots that their things have free: "red striped star".
        """
        first, slots_with = phrases[0], self.vocabulary.slots_with
        before = re.findall(r"([\w-]+) \{c\}", frame)
        said = () if first.relates else (*before, *(word for one in phrases for word in one.known))
        slots = sorted(slots_with(first.modifiers) - slots_with(said))
        if all(one.is_known and not one.names_a_thing for one in phrases):
            turned = chance(0.5, self.rng)
            return tuple((one.turned() if turned else one).said() for one in phrases)
        fit = slots and all(one.is_known and one.names_a_thing for one in phrases)
        if not fit or chance(0.25, self.rng):
            return tuple(one.said() for one in phrases)
        words = (self.vocabulary.fillers[name] for name in shuffle(slots, self.rng))
        unused = ([one for one in some if not contains(frame, [one])] for some in words)
        inner = [pick(some, self.rng) for some in unused if some and chance(0.5, self.rng)]
        return tuple(one.said(inner, article=one.relates) for one in phrases)

    def drawn(self, template: str, said: Sequence[str] = ()) -> str:
        """A frame from a template, with words in its slots, none of them among those `said`.

        Shuffled ones move the concept to other token places: sentences of one phrase get a
        detail, so that there is something to change places with.
        """
        phrases = template.split(", ")
        if chance(self.request.shuffled, self.rng):
            details = [one for one in self.vocabulary.details if self.is_clean(one)]
            count = below(2, self.rng) + (1 if len(phrases) == 1 else 0)
            phrases = shuffle(phrases + shuffle(details, self.rng)[:count], self.rng)
        return self._filled(", ".join(phrases), said)

    def about(self, word: str) -> str:
        """A sentence about a word of the bank or, where the bank lacks it, of the same kind."""
        category = self.vocabulary.category_of([word], self.kind)
        known = self.vocabulary.categories.get(category)
        templates = self.vocabulary.templates_for(category, known.kind if known else self.kind)
        return fill(self.drawn(pick(self.usable(templates), self.rng)), word)

    def usable(self, templates: Sequence[str]) -> list[str]:
        """Those templates that say nothing erased, or the bare slot."""
        return [one for one in templates if self.is_clean(one)] or [SLOT]

    def is_clean(self, text: str) -> bool:
        """Whether a sentence or a template is free of what is erased, however it is said."""
        return is_free(text, self.erased)

    def _filled(self, frame: str, said: Sequence[str]) -> str:
        """The frame with a word in every slot but the concept's, none of them twice."""
        while slot := re.search(r"\{(a_)?((?!c\})\w+)\}", frame.replace(NOUN_SLOT, SLOT)):
            words = [one for one in self.vocabulary.fillers[slot[2]] if self.is_clean(one)]
            words = [one for one in words if one not in said] or words
            unused = [one for one in words if not contains(frame, [one])] or words or ["thing"]
            word = pick(unused, self.rng)
            frame = frame.replace(slot[0], with_article(word) if slot[1] else word, 1)
        return frame


@lru_cache(maxsize=4096)  # the bank's templates and words are asked about for every sentence
def is_free(text: str, pattern: str) -> bool:
    """Whether a sentence or a template does not match the pattern, of any case."""
    return not re.search(pattern, re.sub(r"\{\w+\}", " , ", text), re.IGNORECASE)


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


def shuffle(items: Sequence[T], rng: Generator) -> list[T]:
    """The items in another order."""
    return [items[int(index)] for index in torch.randperm(len(items), generator=rng)]
