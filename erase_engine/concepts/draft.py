"""The parts of a concept plan, drawn one after another from one writer."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from ..interfaces import TextEncoder
from ..validation import shortened
from .grammar import OPENS_WITH_ARTICLE, contains, fill, frame_of
from .kept_sentences import MOST_TRIES, distinct, in_company
from .phrases import Phrase, phrase_of
from .plan import PromptPair
from .prompt_writer import SentenceWriter, chance, shuffle, varied
from .request import ConceptRequest
from .token_positions import concept_tokens
from .vocabulary import Vocabulary

CANDIDATES = 64  # words of the bank compared with the concept
KEEP_FROM_BANK, KEEP_FROM_ANCHORS, KEEP_PER_WORD = 24, 8, 2
KEEP_IN_COMPANY = 56  # of some 120: each part of a phrase beside others than its own


@dataclass(frozen=True)
class Draft:
    """A plan in the making."""

    writer: SentenceWriter

    @property
    def request(self) -> ConceptRequest:
        return self.writer.request

    @property
    def vocabulary(self) -> Vocabulary:
        return self.writer.vocabulary

    # --- what stands in --------------------------------------------------------------------------

    def check(self) -> None:
        """ValueError for a line to keep that says the concept, or a relation nothing stands in for.

        Without its relation a sentence is none, and a general one may say the same: "beside" is
        "next to".
        """
        request, phrase, category = self.request, self.writer.phrase, self.writer.category
        for line in request.keep:
            if not self.writer.is_clean(line):
                raise ValueError(
                    f"Got '{shortened(line)}' both to keep and to erase, expected keep lines "
                    f"without the concept '{shortened(request.concept)}', which this one says in "
                    "other words. Remove the line or reword it."
                )
        related = category and self.vocabulary.categories[category].kind == "relation"
        known = related or (phrase and phrase.relates)
        if request.kind == "relation" and not (known or request.replacement):
            raise ValueError(
                f"Got the relation '{shortened(request.concept)}', which the word bank does not "
                "know, and no replacement, expected one: a sentence without its relation is none. "
                "Fill in what should appear instead, for example 'far away from'."
            )

    def candidates(self) -> tuple[str, ...]:
        """Words of the bank that are not the concept: its own category, then others at random."""
        vocabulary = self.vocabulary
        near = self._category_words
        others = [word for word in vocabulary.words_of(self.writer.kind) if word not in near]
        if len(near) + len(others) < CANDIDATES // 8:
            others += [word for word in vocabulary.words_of("object") if word not in others]
        erased = (*self.request.erased, *filter(None, [self.request.replacement]))
        words = (*near, *shuffle(others, self.writer.rng))
        return tuple(word for word in words if not _clash(word, erased))[:CANDIDATES]

    def anchor(self, ranked: Sequence[str]) -> tuple[str, str]:
        """What stands in for the concept, and why; "" leaves the words out."""
        concept, vocabulary = self.request.concept, self.vocabulary
        if self.request.replacement:
            return self.request.replacement, f"'{self.request.replacement}' appears instead."
        if phrase := self._replaced(ranked):
            return phrase.said(), (
                f"'{phrase.said()}' appears instead: one part of '{concept}' is another, so that "
                "the rest of the picture stays."
            )
        opposite = next(filter(None, map(self._opposite, self.request.wordings)), "")
        for word in (opposite, self._neutral):
            if word and not _clash(word, self.request.erased):
                return word, f"'{word}' appears instead: its picture does not show the concept."
        category = self.writer.category
        others = self.known(ranked)
        if others and not vocabulary.categories[category].plain:
            middle = others[len(others) // 2]
            return middle, (
                f"'{middle}' appears instead: another {category}, not so near to "
                f"'{concept}' that a picture between the two would still show it."
            )
        if category:
            return "", "The words are left out: a picture whose prompt lacks them lacks the thing."
        return "", (
            f"Nothing appears instead of '{concept}': its words are left out, as the planner knows "
            "nothing like it. If pictures without them still show it, fill in what should appear."
        )

    def _opposite(self, word: str) -> str:
        return self.vocabulary.opposites.get(word.lower(), "")

    @property
    def _neutral(self) -> str:
        """What stands in for the kind; "nude woman" keeps its last word: "fully clothed woman"."""
        phrase, word = self.writer.phrase, self.vocabulary.neutral.get(self.request.kind, "")
        if not (word and phrase and self.request.kind == "nudity"):
            return word
        return f"{word} {phrase.parts[-1].text}"

    def _replaced(self, ranked: Sequence[str]) -> Phrase | None:
        """The phrase with another head: the opposite relation, or a thing's nearest neighbour."""
        phrase, neutral = self.writer.phrase, self.vocabulary.neutral
        category = self.vocabulary.categories.get(self.writer.category)
        if not phrase or (phrase.names_a_thing and category and category.plain):
            return None
        words = self.known(ranked)
        if not phrase.names_a_thing:
            words = words[len(words) // 2 :]  # as of a modifier alone
        if phrase.relates:
            relation = phrase.parts[phrase.head].word
            words = (self._opposite(relation), neutral.get("relation", ""))
        changed = (phrase.with_other(phrase.head, word) for word in words if word)
        return next((one for one in changed if self.writer.is_clean(one.said())), None)

    def known(self, ranked: Sequence[str]) -> tuple[str, ...]:
        """Those of the words that are of the concept's own category."""
        return tuple(word for word in ranked if word in self._category_words)

    @property
    def _category_words(self) -> tuple[str, ...]:
        category = self.vocabulary.categories.get(self.writer.category)
        return category.words if category else ()

    # --- what goes -------------------------------------------------------------------------------

    def own_sentences(self, encoder: TextEncoder) -> tuple[PromptPair, ...]:
        """The person's prompts, and the same about each synonym, without anchor prompts yet."""
        wordings = self.request.wordings
        noun = self.request.kind in ("object", "person")
        pairs: dict[str, PromptPair] = {}
        for prompt in self.request.prompts:
            frame = frame_of(prompt, wordings, noun=noun)
            used = [word for word in wordings if contains(prompt, [word])]
            said = {fill(frame, word): [word] for word in wordings if word not in used}
            for text, words in ({prompt: used} | said).items():
                tokens = concept_tokens(encoder, text, words)
                pairs[text] = PromptPair(text, "", words[0], tokens, frame)
        return tuple(pairs.values())

    def template_pairs(self, anchor: str, encoder: TextEncoder) -> tuple[PromptPair, ...]:
        """Sentences from templates, as many as are wanted where there are so many."""
        pairs: dict[str, PromptPair] = {}
        for frame, word, instead in self._drawn_frames(anchor):
            text = fill(frame, word)
            if text in pairs or len(encoder.token_ids(text)) > encoder.max_tokens:
                continue
            anchor_text = fill(frame, instead)
            if not self.writer.is_clean(anchor_text):
                continue
            tokens = concept_tokens(encoder, text, [word])
            pairs[text] = PromptPair(text, anchor_text, word, tokens, frame)
            if len(pairs) == self.request.pairs:
                break
        return tuple(pairs.values())

    def _drawn_frames(self, anchor: str) -> Iterator[tuple[str, str, str]]:
        """Frames, what to say in them, every other time a synonym, and what to say instead."""
        request, rng = self.request, self.writer.rng
        synonyms = request.synonyms or (request.concept,)
        other = phrase_of(anchor, request.kind, self.vocabulary)
        phrases = [one for one in (self.writer.phrase, other) if one]
        for turn in range(MOST_TRIES * request.pairs):
            word = synonyms[turn // 2 % len(synonyms)] if turn % 2 else request.concept
            frame, instead = self.writer.own_frame(*phrases, word=word, bare=anchor != ""), anchor
            if chance(request.varied, rng):
                frame, word = varied(frame, word, rng)
            elif self.writer.phrase and word == request.concept:
                word, instead = (*self.writer.in_words(frame, *phrases), anchor)[:2]
            yield frame, word, instead

    # --- what stays ------------------------------------------------------------------------------

    def keep_prompts(self, concepts: Sequence[str], pairs: Sequence[PromptPair]) -> tuple[str, ...]:
        """The person's prompts, other concepts in sentences, anchors, the bank's, and ""."""
        rng = self.writer.rng
        prompts: list[str] = []
        for line in dict.fromkeys((*self.request.keep, *concepts)):
            # A concept, to be put into sentences, and not a prompt already?
            few = len(line.split()) <= 3 and not re.search(r"[,.;:]", line)
            bare = few and not re.match(OPENS_WITH_ARTICLE, line)
            prompts += [self.writer.about(line) if bare else line for _ in range(KEEP_PER_WORD)]
        prompts += distinct(self.writer, in_company(self.writer), KEEP_IN_COMPANY)
        anchors = dict.fromkeys(shuffle([pair.anchor_prompt for pair in pairs], rng))
        prompts += list(anchors)[:KEEP_FROM_ANCHORS]
        prompts += shuffle(self.vocabulary.keep, rng)[:KEEP_FROM_BANK]
        return tuple(dict.fromkeys([*filter(self.writer.is_clean, prompts), ""]))


def _clash(word: str, others: Sequence[str]) -> bool:
    """Whether two wordings name one thing, or one is part of the other's words."""
    return contains(word, others) or any(contains(other, [word]) for other in others)
