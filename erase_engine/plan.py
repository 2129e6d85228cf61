"""The concept plan as data: what a person asks for, and the prompts that follow from it."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from .backends.base import TextEncoder
from .checks import check_choice, check_fields, check_ranges, read_json, within
from .sentence import concept_tokens, contains, fill, shortened
from .words import KINDS, Kind

LONGEST_WORDING, LONGEST_PROMPT, LONGEST_LIST = 200, 2000, 500  # letters, letters, entries
LONGEST_SENTENCE = LONGEST_PROMPT + 20 * LONGEST_WORDING  # a prompt with its words exchanged


@dataclass(frozen=True, kw_only=True)
class ConceptRequest:
    """What a person asks for, tidied: single spaces, no "a" before a wording, nothing twice.

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

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choice("kind", self.kind, KINDS)
        for name in ("concept", "replacement"):
            object.__setattr__(self, name, _tidy(name, getattr(self, name), LONGEST_WORDING))
        for name in ("synonyms", "keep", "prompts", "also_erased"):
            limit = LONGEST_PROMPT if name in ("keep", "prompts") else LONGEST_WORDING
            object.__setattr__(self, name, _tidy_list(name, getattr(self, name), limit))
        object.__setattr__(self, "concept", _without_article(self.concept))
        synonyms = dict.fromkeys(map(_without_article, self.synonyms))
        others = (word for word in synonyms if word.lower() != self.concept.lower())
        object.__setattr__(self, "synonyms", tuple(others))
        _check_wordings(self.concept, self.synonyms)
        _check_contradictions(self)

    @classmethod
    def from_text(cls, concept: str, **texts: Any) -> ConceptRequest:
        """A request from text fields: `synonyms` by commas or lines, `keep` and `prompts` by lines.

        Other fields are taken as they are.
        """
        separators = {"synonyms": r"[,;\n]", "keep": r"\n", "prompts": r"\n"}
        lists = {
            name: tuple(re.split(separator, texts[name]))
            for name, separator in separators.items()
            if name in texts
        }
        return cls(**check_fields({**texts, **lists, "concept": concept}, cls))

    @property
    def wordings(self) -> tuple[str, ...]:
        """The concept and its synonyms."""
        return (self.concept, *self.synonyms)

    @property
    def erased(self) -> tuple[str, ...]:
        """What no prompt may name that is to stay as it is."""
        return (*self.wordings, *self.also_erased)


@dataclass(frozen=True)
class PromptPair:
    """One sentence with the concept, and the same with what stands in for it.

    `word` is the wording this sentence uses, `tokens` its text tokens in `concept_prompt`, and
    `frame` the sentence with a slot in the word's place. Raises ValueError without tokens.
    """

    concept_prompt: str
    anchor_prompt: str
    word: str
    tokens: tuple[int, ...]
    frame: str

    def __post_init__(self) -> None:
        for name in ("concept_prompt", "anchor_prompt", "word", "frame"):
            _tidy(name, getattr(self, name), LONGEST_SENTENCE)
        rising = list(self.tokens) == sorted({index for index in self.tokens if index >= 0})
        if not self.tokens or not rising:
            raise ValueError(
                f"Got tokens {self.tokens} for '{self.word}' in '{shortened(self.concept_prompt)}',"
                " expected at least one, rising. Find them with ConceptPlan.located."
            )

    def swap(self, word: str) -> str:
        """The same sentence about `word`."""
        return fill(self.frame, word)


@dataclass(frozen=True)
class ConceptPlan:
    """What training needs to know in words.

    Raises ValueError where there is nothing to erase or keep, and where a prompt that should be
    free of the concept names it.
    """

    concept: str
    kind: Kind
    anchor: str  # what appears instead; "" means the concept's words are left out
    synonyms: tuple[str, ...]
    irrelevant: tuple[str, ...]  # unrelated, far, near
    keep: tuple[str, ...]
    pairs: tuple[PromptPair, ...]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        for text in (self.concept, self.anchor, *self.synonyms, *self.irrelevant):
            _tidy("words", text, LONGEST_WORDING)
        _check_wordings(self.concept, self.synonyms)
        if not self.pairs or not self.keep:
            raise ValueError(
                f"Got a plan for '{self.concept}' with {len(self.pairs)} prompt pairs and "
                f"{len(self.keep)} keep prompts, expected at least one of each. Add some."
            )
        free = (*self.keep, *self.irrelevant, *(pair.anchor_prompt for pair in self.pairs))
        for text in free:
            if contains(text, self.wordings):
                raise ValueError(
                    f"Got '{shortened(text)}' as a prompt free of the concept '{self.concept}', "
                    f"expected none of {', '.join(self.wordings)} in it. Reword it."
                )

    @property
    def wordings(self) -> tuple[str, ...]:
        """The concept and its synonyms."""
        return (self.concept, *self.synonyms)

    def located(self, encoder: TextEncoder) -> ConceptPlan:
        """The plan with token indices found anew: for another encoder, or edited prompts."""
        pairs = []
        for pair in self.pairs:
            wordings = (pair.word, *self.wordings)
            tokens = concept_tokens(encoder, pair.concept_prompt, wordings)
            pairs.append(replace(pair, tokens=tokens))
        return replace(self, pairs=tuple(pairs))

    def to_json(self) -> str:
        """One line of JSON that `from_json` turns into an equal plan."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str) -> ConceptPlan:
        """The plan that `to_json` wrote; raises ValueError where the text is not one."""
        values = _complete(read_json(text, cls), cls)
        lists = {name: tuple(one) for name, one in values.items() if isinstance(one, list)}
        try:
            pairs = tuple(_pair_from(pair) for pair in lists["pairs"])
            return cls(**{**values, **lists, "pairs": pairs})
        except (TypeError, KeyError) as error:
            raise ValueError(
                f"Got a plan with a value of the wrong type ({error}), expected texts, and lists "
                "of them. Use what ConceptPlan.to_json wrote."
            ) from error

    def describe(self) -> str:
        """The plan for people to read: what goes, what comes instead, what stays."""
        example = self.pairs[0]
        lines = [
            f"Erase: {self.concept} ({self.kind})",
            f"Also erase: {', '.join(self.synonyms) or 'no other wording'}",
            f"Instead: {self.anchor or 'nothing, the words are left out'}",
            f"Contrast with: {', '.join(self.irrelevant) or 'nothing'}",
            f"{len(self.pairs)} prompt pairs, for example:",
            f"  '{example.concept_prompt}' -> '{example.anchor_prompt}'",
            f"    '{example.word}' is token {', '.join(map(str, example.tokens))}",
            f"{len(self.keep)} prompts to keep, for example:",
            *(f"  '{prompt}'" for prompt in self.keep[:5]),
            *(f"Note: {note}" for note in self.notes),
        ]
        return "\n".join(lines)


def _tidy(name: str, text: object, limit: int) -> str:
    """The text with single spaces; raises ValueError where it can't be part of a prompt."""
    if not isinstance(text, str):
        raise ValueError(f"Got {name} {text!r}, expected text. Write it in words.")
    text = " ".join(text.split())
    bad = [letter for letter in text if unicodedata.category(letter) in ("Cc", "Cs")]
    if bad:
        raise ValueError(
            f"Got the control character {bad[0]!a} in {name} {shortened(text)!a}, expected "
            "printable text. Remove it."
        )
    if len(text) > limit:
        raise ValueError(
            f"Got {name} '{shortened(text)}' of {len(text)} letters, expected at most {limit}. "
            "Shorten it."
        )
    return text


def _tidy_list(name: str, texts: object, limit: int) -> tuple[str, ...]:
    if not isinstance(texts, (tuple, list)) or len(texts) > LONGEST_LIST:
        got = f"{len(texts)} entries" if isinstance(texts, (tuple, list)) else repr(texts)
        raise ValueError(
            f"Got {got} for {name}, expected a list of at most {LONGEST_LIST} texts. "
            "Give a list, and a shorter one if it is long."
        )
    tidied = (_tidy(name, text, limit) for text in texts)
    return tuple(dict.fromkeys(text for text in tidied if text))


def _without_article(wording: str) -> str:
    """The wording as it can follow any word, so that "a cat" is found in "the cat"."""
    return re.sub(r"^(?:an?|the) (?=\w)", "", wording, flags=re.IGNORECASE)


def _check_wordings(concept: str, synonyms: Sequence[str]) -> None:
    for name, word in (("concept", concept), *(("synonym", one) for one in synonyms)):
        if not any(letter.isalnum() for letter in word):
            raise ValueError(
                f"Got the {name} '{word}', expected at least one letter or digit. "
                "Write what should disappear, for example 'dog'."
            )


def _check_contradictions(request: ConceptRequest) -> None:
    for prompt in request.prompts:
        if not contains(prompt, request.wordings):
            raise ValueError(
                f"Concept '{request.concept}' is not in the prompt '{shortened(prompt)}'. "
                "Write it word for word, or leave the prompt empty."
            )
    twice = [word for word in request.wordings if contains(word, request.also_erased)]
    if twice:
        raise ValueError(
            f"Got '{twice[0]}' in two of the concepts to erase, expected it in one. "
            "Remove one of them."
        )
    if contains(request.replacement, request.erased):
        raise ValueError(
            f"Got the replacement '{request.replacement}' for the concept '{request.concept}', "
            f"expected one without any of {', '.join(request.erased)}. Name what should appear "
            "instead, or leave it empty."
        )
    for line in request.keep:
        if contains(line, request.erased):
            raise ValueError(
                f"Got '{shortened(line)}' both to keep and to erase (concept "
                f"'{request.concept}'), expected keep lines without any of "
                f"{', '.join(request.erased)}. Remove the line or reword it."
            )


def _pair_from(values: object) -> PromptPair:
    found = _complete(values, PromptPair)
    return PromptPair(**{**found, "tokens": tuple(found["tokens"])})


def _complete(values: object, kind: type) -> dict[str, Any]:
    """The fields of `kind`, none missing but `notes`; raises ValueError otherwise."""
    found = check_fields(values, kind)
    missing = [one.name for one in fields(kind) if one.name not in found and one.name != "notes"]
    if missing:
        raise ValueError(
            f"Got a {kind.__name__} without {', '.join(missing)}, expected all its fields. "
            f"Use what {kind.__name__} itself wrote."
        )
    return found
