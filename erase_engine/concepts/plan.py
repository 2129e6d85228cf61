"""The concept plan as data: the prompts that follow from what a person asks for."""

from __future__ import annotations

import json
from dataclasses import MISSING, asdict, dataclass, fields, replace
from typing import Any

from ..interfaces import TextEncoder
from ..validation import check_choice, check_fields, check_number, read_json, shortened, told
from .grammar import contains, fill
from .request import LONGEST_SENTENCE, LONGEST_WORDING, check_wordings, tidied
from .token_positions import concept_tokens
from .vocabulary import KINDS, Kind

MOST_NOTES, LONGEST_LINE = 50, 1000  # shown of a plan; letters
NO_OTHERS = "Also erase: no other wording"
LEFT_OUT = "Instead: nothing, the words are left out"
NO_CONTRAST = "Contrast with: nothing"
NONE_HELD = "0 further sentences held to their text features"
MOST_SENTENCES = 10_000
# In a plan: more are no concept's, and a page can't show them.
MOST = {"sentences": MOST_SENTENCES, "words": 1000, "notes": 1000, "letters": 4_000_000}


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
            tidied(name, getattr(self, name), LONGEST_SENTENCE)
        check_wordings("word", [self.word])
        whole = all(type(index) is int and index >= 0 for index in self.tokens)
        if not (self.tokens and whole and list(self.tokens) == sorted(set(self.tokens))):
            raise ValueError(
                f"Got tokens {told(self.tokens)} for '{shortened(self.word)}' in "
                f"'{shortened(self.concept_prompt)}', expected at least one, rising. Find them "
                "with ConceptPlan.located."
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
    held: tuple[str, ...] = ()  # further sentences whose text features may not change
    concepts: int = 1  # that were joined in it

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, KINDS)
        check_number("concepts", self.concepts, low=1, high=MOST_SENTENCES, whole=True)
        for name in ("synonyms", "irrelevant", "keep", "notes", "held"):
            _check_texts(name, getattr(self, name))
        for what, count in self._counts().items():
            if count > MOST[what]:
                raise ValueError(
                    f"Got a plan of {count:,} {what}, expected at most {MOST[what]:,}. Remove some."
                )
        for text in (self.concept, self.anchor, *self.synonyms, *self.irrelevant):
            tidied("words", text, LONGEST_WORDING)
        check_wordings("concept", [self.concept])
        check_wordings("synonym", self.synonyms)
        check_wordings("irrelevant word", self.irrelevant)
        if not self.pairs or not self.keep:
            raise ValueError(
                f"Got a plan for '{shortened(self.concept)}' with {len(self.pairs)} prompt pairs "
                f"and {len(self.keep)} keep prompts, expected at least one of each. Add some."
            )
        free = (
            *self.keep,
            *self.held,
            *self.irrelevant,
            *(pair.anchor_prompt for pair in self.pairs),
        )
        for text in free:
            if contains(text, self.wordings):
                raise ValueError(
                    f"Got '{shortened(text)}' as a prompt free of the concept "
                    f"'{shortened(self.concept)}', expected none of "
                    f"{shortened(', '.join(self.wordings))} in it. Reword it."
                )

    def _counts(self) -> dict[str, int]:
        """How much of each of `MOST` is in it."""
        pairs = (
            text
            for pair in self.pairs
            for text in (pair.concept_prompt, pair.anchor_prompt, pair.word, pair.frame)
        )
        words = (*self.synonyms, *self.irrelevant)
        return {
            "sentences": len(self.pairs) + len(self.keep) + len(self.held),
            "words": len(words),
            "notes": len(self.notes),
            "letters": sum(map(len, (*pairs, *self.keep, *self.held, *words, *self.notes))),
        }

    @property
    def wordings(self) -> tuple[str, ...]:
        """The concept and its synonyms."""
        return (self.concept, *self.synonyms)

    @property
    def texts(self) -> frozenset[str]:
        """Every prompt of the plan, for a test that is to use none of them."""
        pairs = (text for pair in self.pairs for text in (pair.concept_prompt, pair.anchor_prompt))
        return frozenset((*pairs, *self.keep, *self.held))

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
            found = (_complete(pair, PromptPair) for pair in lists["pairs"])
            pairs = tuple(PromptPair(**{**one, "tokens": tuple(one["tokens"])}) for one in found)
            return cls(**{**values, **lists, "pairs": pairs})
        except (TypeError, KeyError) as error:
            raise ValueError(
                f"Got a plan with a value of the wrong type ({error}), expected texts, and lists "
                "of them. Use what ConceptPlan.to_json wrote."
            ) from error

    def describe(self) -> str:
        """The plan for people to read: what goes, what comes instead, what stays; of what is
        without end, the beginning.
        """
        example = self.pairs[0]
        lines = [
            f"Erase: {self.concept} ({self.kind})",
            f"Also erase: {', '.join(self.synonyms)}" if self.synonyms else NO_OTHERS,
            f"Instead: {self.anchor}" if self.anchor else LEFT_OUT,
            f"Contrast with: {', '.join(self.irrelevant)}" if self.irrelevant else NO_CONTRAST,
            f"{len(self.pairs)} prompt pairs, for example:",
            f"  '{example.concept_prompt}' -> '{example.anchor_prompt}'",
            f"    '{example.word}' is token {', '.join(map(str, example.tokens))}",
            f"{len(self.keep)} prompts to keep, for example:",
            *(f"  '{prompt}'" for prompt in self.keep[:5]),
            f"{len(self.held)} further sentences held to their text features, for example "
            f"'{self.held[0]}'"
            if self.held
            else NONE_HELD,
            *(f"Note: {note}" for note in self.notes[:MOST_NOTES]),
        ]
        return "\n".join(shortened(line, LONGEST_LINE) for line in lines)


def _check_texts(name: str, texts: object) -> None:
    if not isinstance(texts, tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"Got {told(texts)} for {name}, expected a list of texts. "
            "Use what ConceptPlan.to_json wrote."
        )
    for text in texts:
        tidied(name, text, LONGEST_SENTENCE)


def _complete(values: object, kind: type) -> dict[str, Any]:
    """The fields of `kind`, none missing but those with a default; raises ValueError otherwise."""
    found = check_fields(values, kind)
    missing = [one.name for one in fields(kind) if one.default is MISSING and one.name not in found]
    if missing:
        raise ValueError(
            f"Got a {kind.__name__} without {', '.join(missing)}, expected all its fields. "
            f"Use what {kind.__name__} itself wrote."
        )
    return found
