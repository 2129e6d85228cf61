"""Sentences that are free of the concept, by the hundred: what its erasure may not change."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain, count, cycle, islice

from .grammar import fill, with_article
from .phrases import Phrase
from .prompt_writer import SentenceWriter, pick, shuffle

HELD, HELD_IN_COMPANY = 256, 96
MOST_TRIES = 20  # sentences drawn for each one wanted: small vocabularies repeat themselves


def held_sentences(writer: SentenceWriter, kept: Sequence[str]) -> tuple[str, ...]:
    """HELD sentences, fewer where the vocabulary has no more, none of them in `kept`.

    Of a phrase the parts in other company come first. Then every other sentence is about a word
    that is near: of the category of the concept, or of its parts.
    """
    parts = writer.phrase.parts if writer.phrase else ()
    near = {writer.category, *(part.category for part in parts)}
    categories = writer.vocabulary.categories
    groups = [[n for n in categories if n in near], [n for n in categories if n not in near]]
    words = [
        [(n, word) for n in some for word in categories[n].words if writer.is_clean(word)]
        for some in groups
    ]
    turns = (_about_by_turns(writer, some) for some in words if some)
    sentences = chain.from_iterable(zip(*turns, strict=True))
    company = distinct(writer, in_company(writer), HELD_IN_COMPANY, beside=kept)
    others = distinct(writer, sentences, HELD - len(company), beside=(*kept, *company))
    return (*company, *others)


def distinct(
    writer: SentenceWriter, sentences: Iterator[str], wanted: int, *, beside: Sequence[str] = ()
) -> tuple[str, ...]:
    """As many clean sentences as are wanted, none twice and none of those `beside`."""
    found: dict[str, None] = {}
    for text in islice(sentences, MOST_TRIES * wanted):
        if text not in found and text not in beside and writer.is_clean(text):
            found[text] = None
        if len(found) == wanted:
            break
    return tuple(found)


def in_company(writer: SentenceWriter) -> Iterator[str]:
    """Sentences without end in which a phrase's parts stand with others than its own.

    Of *red star* by turns: "a blue star", "a red circle", and "a blue star above a red circle".
    """
    phrase = writer.phrase
    if not phrase or not phrase.variable:
        return
    others = {at: cycle(shuffle(phrase.parts[at].others, writer.rng)) for at in phrase.variable}
    for _ in count():
        siblings = [phrase.with_other(at, next(others[at])) for at in phrase.variable]
        for sibling in siblings:
            frame = writer.own_frame(sibling)
            yield fill(frame, *writer.in_words(frame, sibling))
        if len(siblings) > 1 and phrase.names_a_thing and not phrase.relates:
            yield _together(writer, shuffle(siblings, writer.rng)[:2])


def _together(writer: SentenceWriter, siblings: Sequence[Phrase]) -> str:
    """Two phrases in one sentence, joined by a relation that a template may have, or by "and"."""
    vocabulary = writer.vocabulary
    slots = sorted(vocabulary.slots_with(vocabulary.words_of("relation")))
    relations = [word for name in slots for word in vocabulary.fillers[name]]
    first, second = (with_article(*writer.in_words("", one)) for one in siblings)
    return f"{first} {pick(relations or ['and'], writer.rng)} {second}"


def _about_by_turns(writer: SentenceWriter, words: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Sentences without end: each category's word in turn, and of each in turn its templates."""
    vocabulary, order = writer.vocabulary, shuffle(words, writer.rng)
    for turn in count():
        for place, (category, word) in enumerate(order):
            templates = vocabulary.templates_for(category, vocabulary.categories[category].kind)
            usable = writer.usable(templates)
            frame = writer.drawn(usable[(turn + place) % len(usable)], [word])
            yield fill(frame, word)
