"""From a person's words to the prompts of a training run: `plan_concept`.

No language model and no network: sentence templates, a word bank, and the loaded text encoder's
own idea of what is similar. The same request, encoder and vocabulary give the same plan.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

import torch
from torch.nn.functional import cosine_similarity

from ..interfaces import TextEncoder
from .everyday import PICTURES
from .grammar import OPENS_WITH_ARTICLE, contains, fill, frame_of
from .plan import ConceptPlan, PromptPair
from .prompt_writer import SentenceWriter, chance, shuffle, varied
from .request import ConceptRequest
from .token_positions import concept_tokens
from .vocabulary import Vocabulary

CANDIDATES = 64  # words of the bank compared with the concept
MOST_COMPARED = CANDIDATES + 1  # texts, for one concept
KEEP_FROM_BANK, KEEP_FROM_ANCHORS, KEEP_NEIGHBOURS, KEEP_PER_WORD = 24, 8, 12, 2
MOST_TRIES = 20  # sentences drawn for each one wanted: small vocabularies repeat themselves
NO_SYNONYMS = (
    "No synonyms were given. Other words for the concept go only as far as the model takes them "
    "for it: name one or two to be sure of them."
)


def plan_concept(
    request: ConceptRequest,
    encoder: TextEncoder,
    *,
    vocabulary: Vocabulary = PICTURES,
    on_text: Callable[[], None] = lambda: None,
) -> ConceptPlan:
    """The plan for one concept.

    `on_text` is called after each text that is compared, at most MOST_COMPARED times; it may
    raise to cancel. Raises ValueError, naming both, where the concept or a prompt is too long for
    the encoder.
    """
    _check_token_limit(request, encoder)
    draft = _Draft(SentenceWriter(request, vocabulary))
    own = draft.own_sentences(encoder)
    ranked = rank_by_similarity(request.concept, draft.candidates(), encoder, on_text=on_text)
    anchor, reason = draft.anchor(ranked)
    pairs = tuple(replace(pair, anchor_prompt=pair.swap(anchor)) for pair in own)
    pairs += draft.template_pairs(anchor, encoder)
    others = [word for word in ranked if word != anchor]
    # The farthest, the middle and the nearest.
    spread = (others[-1], others[len(others) // 2], others[0]) if others else ()
    irrelevant = tuple(dict.fromkeys(spread))
    neighbours = (draft.known(ranked) or ranked)[:KEEP_NEIGHBOURS]  # what is likeliest to be harmed
    return ConceptPlan(
        concept=request.concept,
        kind=request.kind,
        anchor=anchor,
        synonyms=request.synonyms,
        irrelevant=irrelevant,
        keep=draft.keep_prompts((*irrelevant, *neighbours), pairs),
        pairs=pairs,
        notes=(reason,) if request.synonyms else (NO_SYNONYMS, reason),
    )


def rank_by_similarity(
    concept: str,
    words: Sequence[str],
    encoder: TextEncoder,
    *,
    on_text: Callable[[], None] = lambda: None,
) -> tuple[str, ...]:
    """The words by cosine similarity of their text vector to the concept's, nearest first.

    Words of equal similarity keep their order.
    """
    if not words:
        return ()
    vectors = encoder.vectors([concept, *words], on_text=on_text)
    similarity = cosine_similarity(vectors[1:], vectors[:1]).nan_to_num()  # (words,)
    order = torch.sort(similarity, descending=True, stable=True).indices
    return tuple(words[int(index)] for index in order)


@dataclass(frozen=True)
class _Draft:
    """A plan in the making."""

    writer: SentenceWriter

    @property
    def request(self) -> ConceptRequest:
        return self.writer.request

    def candidates(self) -> tuple[str, ...]:
        """Words of the bank that are not the concept: its own category, then others at random."""
        vocabulary = self.writer.vocabulary
        near = self._category_words
        others = [word for word in vocabulary.words_of(self.request.kind) if word not in near]
        if len(near) + len(others) < CANDIDATES // 8:
            others += [word for word in vocabulary.words_of("object") if word not in others]
        erased = (*self.request.erased, *filter(None, [self.request.replacement]))
        words = (*near, *shuffle(others, self.writer.rng))
        return tuple(word for word in words if not _clash(word, erased))[:CANDIDATES]

    def anchor(self, ranked: Sequence[str]) -> tuple[str, str]:
        """What stands in for the concept, and why; "" leaves the words out."""
        concept, vocabulary = self.request.concept, self.writer.vocabulary
        if self.request.replacement:
            return self.request.replacement, "What appears instead was chosen by you."
        opposite = vocabulary.opposites.get(concept.lower(), "")
        neutral = vocabulary.neutral.get(self.request.kind, "")
        for word in (opposite, neutral):
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
            f"The words are left out, because the word bank does not know '{concept}'. If pictures "
            "without the words still show it, name what should appear instead."
        )

    def known(self, ranked: Sequence[str]) -> tuple[str, ...]:
        """Those of the words that are of the concept's own category."""
        return tuple(word for word in ranked if word in self._category_words)

    @property
    def _category_words(self) -> tuple[str, ...]:
        category = self.writer.vocabulary.categories.get(self.writer.category)
        return category.words if category else ()

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
        for frame, word in self._drawn_frames():
            text, anchor_text = fill(frame, word), fill(frame, anchor)
            fits = len(encoder.token_ids(text)) <= encoder.max_tokens
            if text in pairs or not fits or not self.writer.is_clean(anchor_text):
                continue
            tokens = concept_tokens(encoder, text, [word])
            pairs[text] = PromptPair(text, anchor_text, word, tokens, frame)
            if len(pairs) == self.request.pairs:
                break
        return tuple(pairs.values())

    def _drawn_frames(self) -> Iterator[tuple[str, str]]:
        """Frames and what to say in them, every other time a synonym where there are any."""
        request, rng = self.request, self.writer.rng
        synonyms = request.synonyms or (request.concept,)
        for turn in range(MOST_TRIES * request.pairs):
            word = synonyms[turn // 2 % len(synonyms)] if turn % 2 else request.concept
            frame = self.writer.frame(self.writer.category)
            yield varied(frame, word, rng) if chance(request.varied, rng) else (frame, word)

    def keep_prompts(self, concepts: Sequence[str], pairs: Sequence[PromptPair]) -> tuple[str, ...]:
        """The person's prompts, other concepts in sentences, anchors, the bank's, and ""."""
        rng = self.writer.rng
        prompts: list[str] = []
        for line in dict.fromkeys((*self.request.keep, *concepts)):
            # A concept, to be put into sentences, and not a prompt already?
            few = len(line.split()) <= 3 and not re.search(r"[,.;:]", line)
            bare = few and not re.match(OPENS_WITH_ARTICLE, line)
            prompts += [self.writer.about(line) if bare else line for _ in range(KEEP_PER_WORD)]
        anchors = dict.fromkeys(shuffle([pair.anchor_prompt for pair in pairs], rng))
        prompts += list(anchors)[:KEEP_FROM_ANCHORS]
        prompts += shuffle(self.writer.vocabulary.keep, rng)[:KEEP_FROM_BANK]
        return tuple(dict.fromkeys([*filter(self.writer.is_clean, prompts), ""]))


def _check_token_limit(request: ConceptRequest, encoder: TextEncoder) -> None:
    """Raises ValueError before anything is encoded, which is work for a device."""
    for word in request.wordings:
        count = len(encoder.token_ids(word))
        if count > encoder.max_tokens:
            raise ValueError(
                f"Concept '{word}' has {count} tokens, expected at most {encoder.max_tokens}, "
                "which is all the model reads of a prompt. Use fewer words."
            )


def _clash(word: str, others: Sequence[str]) -> bool:
    """Whether two wordings name one thing, or one is part of the other's words."""
    return contains(word, others) or any(contains(other, [word]) for other in others)


def plan_together(
    requests: Sequence[ConceptRequest],
    encoder: TextEncoder,
    *,
    vocabulary: Vocabulary = PICTURES,
    on_text: Callable[[], None] = lambda: None,
) -> ConceptPlan:
    """The plan that erases all of the requests' concepts; no sentence of one names another.

    Raises ValueError as `plan_concept` does, and where two requests name one thing.
    """
    plans = []
    for request in requests:
        others = (other.wordings for other in requests if other is not request)
        erased = (*request.also_erased, *chain.from_iterable(others))
        told = replace(request, also_erased=erased)
        plans.append(plan_concept(told, encoder, vocabulary=vocabulary, on_text=on_text))
    return plans[0] if len(plans) == 1 else joined(plans)


def joined(plans: Sequence[ConceptPlan]) -> ConceptPlan:
    """One plan out of several, their sentences by turns.

    It contrasts nothing: a synonym of one concept is none of the next, and a picture that is
    irrelevant to one may show another.
    """
    turns = chain.from_iterable(zip_longest(*(plan.pairs for plan in plans)))
    wordings = chain.from_iterable(plan.wordings for plan in plans)
    keep = chain.from_iterable(plan.keep for plan in plans)
    return ConceptPlan(
        concept=" + ".join(plan.concept for plan in plans),
        kind=plans[0].kind,
        anchor=", ".join(plan.anchor or "nothing" for plan in plans),
        synonyms=tuple(dict.fromkeys(wordings)),
        irrelevant=(),
        keep=tuple(dict.fromkeys(keep)),
        pairs=tuple(pair for pair in turns if pair is not None),
        notes=tuple(f"{plan.concept}: {note}" for plan in plans for note in plan.notes),
    )
