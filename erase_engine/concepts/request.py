"""What a person asks for, tidied and checked."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..validation import check_choice, check_fields, check_ranges, shortened, told, within
from .grammar import contains
from .text_fields import LONGEST_PROMPT, read_fields, split_lists
from .vocabulary import KINDS, Kind

LONGEST_WORDING, LONGEST_LIST = 200, 500  # letters, entries
LONGEST_SENTENCE = LONGEST_PROMPT + 20 * LONGEST_WORDING  # a prompt with its words exchanged


@dataclass(frozen=True, kw_only=True)
class ConceptRequest:
    """What a person asks for, tidied: single spaces, no "a" before a wording, nothing twice.

    Texts are taken literally; `from_text` reads weights, quotes and lines first.

    Raises ValueError for an empty, overlong or unprintable text, a prompt without the concept,
    and a replacement or a keep line that contains it.
    """

    concept: str
    kind: Kind = "object"
    replacement: str = ""  # what should appear instead; "" lets the planner choose
    synonyms: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()  # prompts or bare concepts that must not change
    prompts: tuple[str, ...] = ()  # the person's own sentences with the concept
    also_erased: tuple[str, ...] = ()  # wordings of concepts that the same LoRA erases
    pairs: int = within(96, 1, 4096)  # how many sentences to make
    shuffled: float = within(0.9, 0, 1)  # share of sentences whose phrases change places
    varied: float = within(0.05, 0, 1)  # share with the concept misspelled or repeated
    seed: int = within(0, 0, 2**64 - 1)
    notes: tuple[str, ...] = ()  # what the plan is to say of how it was read

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choice("kind", self.kind, KINDS)
        for name in ("concept", "replacement"):
            object.__setattr__(self, name, tidied(name, getattr(self, name), LONGEST_WORDING))
        for name in ("synonyms", "keep", "prompts", "also_erased", "notes"):
            limit = LONGEST_PROMPT if name in ("keep", "prompts") else LONGEST_WORDING
            object.__setattr__(self, name, tidied_list(name, getattr(self, name), limit))
        object.__setattr__(self, "concept", _without_article(self.concept))
        synonyms = dict.fromkeys(map(_without_article, self.synonyms))
        others = (word for word in synonyms if word.lower() != self.concept.lower())
        object.__setattr__(self, "synonyms", tuple(others))
        check_wordings("concept", [self.concept])
        check_wordings("synonym", self.synonyms)
        _check_contradictions(self)

    @classmethod
    def from_text(cls, concept: str, **texts: Any) -> ConceptRequest:
        """A request from text fields as a person fills them in: `split_lists`, `read_fields`."""
        values = check_fields({**texts, "concept": concept}, cls)
        return cls(**read_fields(split_lists(values)))

    @property
    def wordings(self) -> tuple[str, ...]:
        """The concept and its synonyms."""
        return (self.concept, *self.synonyms)

    @property
    def erased(self) -> tuple[str, ...]:
        """What no prompt may name that is to stay as it is."""
        return (*self.wordings, *self.also_erased)


def tidied(name: str, text: object, limit: int) -> str:
    """The text with single spaces; raises ValueError where it can't be part of a prompt."""
    if not isinstance(text, str):
        raise ValueError(f"Got {name} {told(text)}, expected text. Write it in words.")
    text = " ".join(text.split())
    bad = [letter for letter in text if unicodedata.category(letter) in ("Cc", "Cs")]
    if bad:
        raise ValueError(
            f"Got the control character {bad[0]!a} in {name} '{shortened(text)}', expected "
            "printable text. Remove it."
        )
    if len(text) > limit:
        raise ValueError(
            f"Got {name} '{shortened(text)}' of {len(text)} letters, expected at most {limit}. "
            "Shorten it."
        )
    return text


def tidied_list(name: str, texts: object, limit: int) -> tuple[str, ...]:
    if not isinstance(texts, (tuple, list)) or len(texts) > LONGEST_LIST:
        got = f"{len(texts)} entries" if isinstance(texts, (tuple, list)) else told(texts)
        raise ValueError(
            f"Got {got} for {name}, expected a list of at most {LONGEST_LIST} texts. "
            "Give a list, and a shorter one if it is long."
        )
    clean = (tidied(name, text, limit) for text in texts)
    return tuple(dict.fromkeys(text for text in clean if text))


def _without_article(wording: str) -> str:
    """The wording as it can follow any word, so that "a cat" is found in "the cat"."""
    return re.sub(r"^(?:an?|the) (?=\w)", "", wording, flags=re.IGNORECASE)


def check_wordings(name: str, words: Sequence[str]) -> None:
    for word in words:
        if not any(letter.isalnum() for letter in word):
            raise ValueError(
                f"Got the {name} '{shortened(word)}', expected at least one letter or digit. "
                "Write what should disappear, for example 'dog'."
            )


def _check_contradictions(request: ConceptRequest) -> None:
    for prompt in request.prompts:
        if not contains(prompt, request.wordings):
            raise ValueError(
                f"Got the concept '{shortened(request.concept)}', which is not in the prompt "
                f"'{shortened(prompt)}', expected it there. Write it word for word, or leave the "
                "prompt empty."
            )
    twice = [word for word in request.wordings if contains(word, request.also_erased)]
    if twice:
        raise ValueError(
            f"Got '{shortened(twice[0])}' in two of the concepts to erase, expected it in one. "
            "Remove one of them."
        )
    if contains(request.replacement, request.erased):
        raise ValueError(
            f"Got the replacement '{shortened(request.replacement)}' for the concept "
            f"'{shortened(request.concept)}', expected one without any of "
            f"{shortened(', '.join(request.erased))}. Name what should appear instead, or leave it "
            "empty."
        )
    for line in request.keep:
        if contains(line, request.erased):
            raise ValueError(
                f"Got '{shortened(line)}' both to keep and to erase (concept "
                f"'{shortened(request.concept)}'), expected keep lines without any of "
                f"{shortened(', '.join(request.erased))}. Remove the line or reword it."
            )
