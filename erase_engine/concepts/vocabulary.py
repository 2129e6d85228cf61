"""What a planner may say about a world: sentence templates and concepts by category.

Slots in a template: `{c}` is the concept; any other name is drawn from `Vocabulary.fillers`. A
slot written `{a_name}` gets the article its word needs.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

from .grammar import contains

# The concept's slot; before it others, the first with the article; behind it others without one.
BESIDE_CONCEPT = r"(?:\{a_c\}|(?:\{a_\w+\} )?(?:\{(?!a_)\w+\} )*\{c\})(?: \{(?!a_)\w+\})*"

Kind = Literal["object", "style", "person", "relation", "nudity"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclass(frozen=True)
class Category:
    """Concepts of one sort; a picture of one of them shows none of the others.

    `plain` says that a picture whose prompt names none of them usually shows none of them, so
    that leaving the word out is enough.
    """

    kind: Kind
    words: tuple[str, ...]
    plain: bool = False


@dataclass(frozen=True)
class Vocabulary:
    """What a planner may say about a world.

    `templates` are looked up by category, then by kind; those of "object" serve for the rest.
    `details` are phrases that fit every sentence; `keep` are prompts worth keeping as they are;
    `opposites` and `neutral` say what stands in for a concept, and for a kind.
    """

    templates: Mapping[str, tuple[str, ...]]
    categories: Mapping[str, Category]
    fillers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    details: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    opposites: Mapping[str, str] = field(default_factory=dict)
    neutral: Mapping[Kind, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if "object" not in self.templates:
            raise ValueError(
                f"Got templates for {', '.join(self.templates) or 'nothing'}, expected some for "
                "'object', which serve where there are no others. Add them."
            )
        for template in (one for group in self.templates.values() for one in group):
            slots = names_in(template)
            unknown = slots - {"c"} - set(self.fillers)
            if "c" not in slots or unknown:
                raise ValueError(
                    f"Got template '{template}', expected the slot {{c}} and others out of "
                    f"{', '.join(self.fillers) or 'none'}. Correct it."
                )

    def category_of(self, wordings: Iterable[str], kind: Kind) -> str:
        """The category that knows one of the wordings, those of `kind` first, or "".

        "Siamese cat" is known by "cat", and "Van Gogh" by "Vincent van Gogh".
        """
        wordings = [re.sub(r" style$", "", wording) for wording in wordings]
        names = sorted(self.categories, key=lambda name: self.categories[name].kind != kind)
        for known in (is_same, _ends_with, _is_end_of):
            for name in names:
                words = self.categories[name].words
                if any(known(one, word) for one in wordings for word in words):
                    return name
        return ""

    def knows(self, wording: str) -> bool:
        """Whether the wording is a word of the bank, or the end of one: "Van Gogh"."""
        words = (word for one in self.categories.values() for word in one.words)
        return any(is_same(wording, word) or _is_end_of(wording, word) for word in words)

    @property
    def modifiers(self) -> dict[str, tuple[str, ...]]:
        """Categories whose words stand before a noun, as their templates show, with the words."""
        return {
            name: category.words
            for name, category in self.categories.items()
            if category.kind in ("style", "nudity")
            for templates in ["\n".join(self.templates_for(name, category.kind))]
            if re.search(r"\{(?:a_)?c\} \{", templates)
        }

    def slots_with(self, words: Iterable[str]) -> set[str]:
        """Names of the slots that one of the bank's words may fill."""
        known = set(words)
        return {name for name, fillers in self.fillers.items() if not known.isdisjoint(fillers)}

    def relates(self, template: str) -> bool:
        """Whether a template says how two things stand, or has a slot for it."""
        relations = self.words_of("relation")
        return contains(template, relations) or bool(
            self.slots_with(relations) & names_in(template)
        )

    def templates_for(self, category: str, kind: Kind) -> tuple[str, ...]:
        """Sentences that suit a concept of this category ("" is none) and kind."""
        names = (category, kind, "object")
        return next(self.templates[name] for name in names if name in self.templates)

    def words_of(self, kind: Kind) -> tuple[str, ...]:
        """All the bank's concepts of a kind."""
        groups = (one.words for one in self.categories.values() if one.kind == kind)
        return tuple(word for group in groups for word in group)


def names_in(template: str) -> set[str]:
    """Names of a template's slots."""
    return set(re.findall(r"\{(?:a_)?(\w+)\}", template))


def without_slots(template: str, names: Collection[str]) -> str:
    """The template without slots of these names beside the concept's.

    "an image of {a_style} {colour} {c}" without colour is "an image of {a_style} {c}".
    """

    def mended(found: re.Match[str]) -> str:
        slots = found[0].split()
        first, *others = (slot for slot in slots if not names_in(slot) & set(names))
        article = "a_" if found[0].startswith("{a_") and not first.startswith("{a_") else ""
        return " ".join((first.replace("{", "{" + article, 1), *others))

    return re.sub(BESIDE_CONCEPT, mended, template)


def is_same(wording: str, word: str) -> bool:
    """Whether a wording is the word, in any case or number."""
    return contains(wording, [word]) and len(wording.split()) == len(word.split())


def _ends_with(wording: str, word: str) -> bool:
    return is_same(" ".join(wording.split()[-len(word.split()) :]), word)


def _is_end_of(wording: str, word: str) -> bool:
    return _ends_with(word, wording)
