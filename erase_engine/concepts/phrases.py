"""Concepts of several words: their parts, and what else can stand in a part's place.

A noun phrase is "red star": modifiers before a head. A relation phrase is "cross above ring": two
things and how they stand.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, permutations

from .grammar import BETWEEN_PHRASES, pattern_of, with_article
from .vocabulary import Kind, Vocabulary, is_same

MOST_WORDS = 3  # of a word of the bank, such as "hot air balloon"
MOST_TURNED = 3  # words before a head that may change places


@dataclass(frozen=True)
class Part:
    """A word of a phrase, and the bank's own for it; "" where it knows none."""

    text: str
    word: str = ""
    category: str = ""
    others: tuple[str, ...] = ()  # that can stand in its place
    article: bool = False  # whether "a" or "an" stands before it

    @property
    def said(self) -> str:
        return with_article(self.text) if self.article else self.text


@dataclass(frozen=True)
class Phrase:
    """A concept of several words, the last of which, or one between the others, the bank knows.

    `head` is the place of the part that gives way to another: the relation, or the last word.
    `converse` is the relation that says the same of the two things in the other order, or "".
    """

    parts: tuple[Part, ...]
    head: int
    modifiers: tuple[str, ...]  # words of the bank that may stand before any thing
    converse: str = ""

    @property
    def relates(self) -> bool:
        return self.head < len(self.parts) - 1

    @property
    def names_a_thing(self) -> bool:
        """False for modifiers alone, as in "dotted blue"."""
        return self.parts[-1].word not in self.modifiers

    @property
    def is_known(self) -> bool:
        """Whether the bank knows every word of it."""
        return all(part.word for part in self.parts)

    @property
    def known(self) -> tuple[str, ...]:
        """Its words that the bank knows."""
        return tuple(part.word for part in self.parts if part.word)

    @property
    def variable(self) -> tuple[int, ...]:
        """Places of parts that can be exchanged, so that the others stand in other company."""
        places = [at for at, part in enumerate(self.parts) if part.others]
        with_known = any(self.parts[at].word for at in places if at != self.head)
        return tuple(at for at in places if at != self.head or with_known)

    def said(self, inner: Sequence[str] = (), *, article: bool = False) -> str:
        """The phrase in words, with the `inner` ones before its last: "red striped star"."""
        *before, last = self.parts
        end = " ".join((*inner, last.text))
        end = with_article(end) if article or last.article else end
        return " ".join((*(part.said for part in before), end))

    def with_other(self, at: int, word: str) -> Phrase:
        """The phrase with another word in one place.

        Words that the bank does not know go with a head: "Siamese" says nothing of a dog.
        """
        parts = list(self.parts)
        parts[at] = replace(parts[at], text=word, word=word)
        if at == self.head and not self.relates:
            parts = [part for part in parts if part.word or part is parts[at]]
        return replace(self, parts=tuple(parts), head=self.head if self.relates else len(parts) - 1)

    def turned(self) -> Phrase:
        """Modifiers alone in the other order."""
        return replace(self, parts=self.parts[::-1])

    def with_company(self, words: tuple[str, ...]) -> Phrase:
        """The phrase with `words` to stand in the place of those that the bank does not know."""
        parts = (part if part.word else replace(part, others=words) for part in self.parts)
        return replace(self, parts=tuple(parts))

    @property
    def pattern(self) -> str:
        """A regular expression for every way to say the phrase.

        Modifiers may stand between its words, its own in another order, and the two things of a
        relation the other way round: "a ring below a red cross" says "cross above ring".
        """
        gap = rf"(?:\s+(?:{'|'.join(('an?', 'the', *map(re.escape, self.modifiers)))}))*\s+"
        words = [pattern_of([part.text]) for part in self.parts]
        if self.relates:
            turned = [*words[self.head + 1 :], re.escape(self.converse), *words[: self.head]]
            orders = [words, turned] if self.converse else [words]
        else:
            last = words[self.head :] if self.names_a_thing else []
            free = words[: len(words) - len(last)]
            orders = [[*order, *last] for order in permutations(free[-MOST_TURNED:])]
            orders = [[*free[:-MOST_TURNED], *order] for order in orders]
        return "|".join(gap.join(order) for order in orders)


def phrase_of(concept: str, kind: Kind, vocabulary: Vocabulary) -> Phrase | None:
    """The phrase that a concept is; None where it is one word, known as a whole, or unknown.

    In a noun phrase the bank must know the last word; in a relation phrase the relation.
    """
    if len(concept.split()) < 2 or vocabulary.knows(concept):
        return None
    parts = tuple(_parts(concept, kind, vocabulary))
    modifiers = tuple(chain.from_iterable(vocabulary.modifiers.values()))
    relations, opposites = vocabulary.words_of("relation"), vocabulary.opposites
    related = [at for at in range(1, len(parts) - 1) if parts[at].word in relations]
    if related:
        word = parts[related[0]].word
        converse = opposites.get(word, "")
        turns = opposites.get(converse) == word
        return Phrase(parts, related[0], modifiers, converse if turns else "")
    small = re.search(rf"\b(?:{BETWEEN_PHRASES})\b", concept, re.IGNORECASE)
    if small or len(parts) < 2 or not parts[-1].word:
        return None
    phrase = Phrase(parts, len(parts) - 1, modifiers)
    return phrase.with_company(_usual_modifiers(phrase, kind, vocabulary))


def _usual_modifiers(phrase: Phrase, kind: Kind, vocabulary: Vocabulary) -> tuple[str, ...]:
    """What can stand in an unknown word's place: of people other looks, of things colours."""
    if not phrase.names_a_thing:
        return ()
    people = kind in ("person", "nudity") or not phrase.parts[-1].category
    for name, words in vocabulary.modifiers.items():
        if people == (vocabulary.categories[name].kind == "nudity"):
            return words
    return ()


def _parts(concept: str, kind: Kind, vocabulary: Vocabulary) -> Iterator[Part]:
    """The longest words that the bank knows, and single ones between them."""
    own = words = concept.split()
    while words:
        article = words[0] in ("a", "an") and len(words) > 1
        words = words[article:]
        lengths = range(min(len(words), MOST_WORDS), 0, -1)
        found = (_part(" ".join(words[:n]), n == len(words), kind, vocabulary) for n in lengths)
        part = next((one for one in found if one.word), Part(words[0]))
        part = replace(part, others=tuple(one for one in part.others if one not in own))
        words = words[len(part.text.split()) :]
        yield replace(part, article=article)


def _part(text: str, last: bool, kind: Kind, vocabulary: Vocabulary) -> Part:
    """A word as the bank knows it: before the last as a modifier, if it is known as one.

    A capital makes it a name, unless the bank's own word has it.
    """
    wanted = kind if last else "style"
    names = sorted(vocabulary.categories, key=lambda n: vocabulary.categories[n].kind != wanted)
    for name in names:
        words = vocabulary.categories[name].words
        own = [word for word in words if is_same(text, word) and (text in (word, text.lower()))]
        if own:
            return Part(text, own[0], name, tuple(word for word in words if word != own[0]))
    opposite = vocabulary.opposites.get(text, "")
    return Part(text, text, others=(opposite,)) if opposite else Part(text)
