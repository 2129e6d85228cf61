"""From a person's words to the prompts of a training run: `plan_concept`.

No language model and no network: sentence templates, a word bank, and the loaded text encoder's
own idea of what is similar. The same request, encoder and vocabulary give the same plan.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Generator
from torch.nn.functional import cosine_similarity

from .backends.base import TextEncoder
from .plan import ConceptPlan, ConceptRequest, PromptPair
from .sentence import (
    NOUN_SLOT,
    OPENS_WITH_ARTICLE,
    SLOT,
    concept_tokens,
    contains,
    fill,
    frame_of,
    with_article,
)
from .words import KINDS, PICTURES, Kind, Vocabulary

__all__ = [
    "KINDS",
    "PICTURES",
    "ConceptPlan",
    "ConceptRequest",
    "Kind",
    "PromptPair",
    "Vocabulary",
    "concept_tokens",
    "plan_concept",
    "rank_by_similarity",
]

CANDIDATES = 64  # words of the bank compared with the concept: each costs a text encoding
ENCODED_AT_ONCE = 16
KEEP_FROM_BANK, KEEP_FROM_ANCHORS, KEEP_PER_WORD = 16, 8, 2
MOST_SYNONYMS = 3  # taken from WordNet, whose later ones stray
WORDNET_PART = {"object": "n", "person": "n", "style": "a", "nudity": "a"}


def plan_concept(
    request: ConceptRequest, encoder: TextEncoder, *, vocabulary: Vocabulary = PICTURES
) -> ConceptPlan:
    """The plan for one concept.

    Raises ValueError, naming both, where the concept or a prompt is too long for the encoder.
    """
    request, notes = _with_synonyms(request)
    _check_token_limit(request, encoder)
    draft = _Draft(request, vocabulary, Generator().manual_seed(request.seed))
    ranked = rank_by_similarity(request.concept, draft.candidates(), encoder)
    anchor, reason = draft.anchor(ranked)
    irrelevant = _spread([word for word in ranked if word != anchor])
    pairs = draft.own_pairs(anchor, encoder) + draft.template_pairs(anchor, encoder)
    return ConceptPlan(
        concept=request.concept,
        kind=request.kind,
        anchor=anchor,
        synonyms=request.synonyms,
        irrelevant=irrelevant,
        keep=draft.keep_prompts(irrelevant, pairs),
        pairs=pairs,
        notes=(*notes, reason),
    )


def rank_by_similarity(concept: str, words: Sequence[str], encoder: TextEncoder) -> tuple[str, ...]:
    """The words by cosine similarity of their pooled text vector to the concept's, nearest first.

    Words of equal similarity keep their order.
    """
    if not words:
        return ()
    texts = [concept, *words]
    batches = (texts[at : at + ENCODED_AT_ONCE] for at in range(0, len(texts), ENCODED_AT_ONCE))
    pooled = torch.cat([encoder.encode(batch).pooled.float().cpu() for batch in batches])
    similarity = cosine_similarity(pooled[1:], pooled[:1]).nan_to_num()  # (words,)
    order = torch.sort(similarity, descending=True, stable=True).indices
    return tuple(words[int(index)] for index in order)


@dataclass(frozen=True)
class _Draft:
    """A plan in the making: one request, one vocabulary, one stream of random numbers."""

    request: ConceptRequest
    vocabulary: Vocabulary
    rng: Generator

    @property
    def category(self) -> str:
        return self.vocabulary.category_of(self.request.wordings, self.request.kind)

    def candidates(self) -> tuple[str, ...]:
        """Words of the bank that are not the concept: its own category, then others at random."""
        kind = self.request.kind
        own = self.vocabulary.categories.get(self.category)
        near = list(own.words) if own else []
        others = [word for word in self.vocabulary.words_of(kind) if word not in near]
        if len(near) + len(others) < CANDIDATES // 8:
            others += [word for word in self.vocabulary.words_of("object") if word not in others]
        erased = (*self.request.wordings, *filter(None, [self.request.replacement]))
        words = near + _shuffle(others, self.rng)
        return tuple(word for word in words if not _clash(word, erased))[:CANDIDATES]

    def anchor(self, ranked: Sequence[str]) -> tuple[str, str]:
        """What stands in for the concept, and why; "" leaves the words out."""
        concept, kind = self.request.concept, self.request.kind
        if self.request.replacement:
            return self.request.replacement, "What appears instead was chosen by you."
        opposite = self.vocabulary.opposites.get(concept.lower(), "")
        neutral = self.vocabulary.neutral.get(kind, "")
        for word in (opposite, neutral):
            if word and not _clash(word, self.request.wordings):
                return word, f"'{word}' appears instead: its picture does not show the concept."
        known = self.vocabulary.categories.get(self.category)
        nearest = next((word for word in ranked if known and word in known.words), "")
        if known and nearest and not known.plain:
            return nearest, f"'{nearest}' appears instead: it is the nearest other {self.category}."
        if known:
            return "", "The words are left out: a picture whose prompt lacks them lacks the thing."
        return "", (
            f"The words are left out, because the word bank does not know '{concept}'. If pictures "
            "without the words still show it, name what should appear instead."
        )

    def own_pairs(self, anchor: str, encoder: TextEncoder) -> tuple[PromptPair, ...]:
        """The person's prompts, and the same about each synonym."""
        wordings = self.request.wordings
        noun = self.request.kind in ("object", "person")
        pairs: dict[str, PromptPair] = {}
        for prompt in self.request.prompts:
            frame = frame_of(prompt, wordings, noun=noun)
            used = [word for word in wordings if contains(prompt, [word])]
            sentences = {prompt: used[0]} | {
                fill(frame, word): word for word in wordings if word not in used
            }
            for text, word in sentences.items():
                tokens = concept_tokens(encoder, text, used if text == prompt else [word])
                pairs[text] = PromptPair(text, fill(frame, anchor), word, tokens, frame)
        return tuple(pairs.values())

    def template_pairs(self, anchor: str, encoder: TextEncoder) -> tuple[PromptPair, ...]:
        """Sentences from templates, every other one about a synonym where there are any."""
        templates = self.vocabulary.templates_for(self.category, self.request.kind)
        concept, synonyms = self.request.concept, self.request.synonyms
        wanted = self.request.pairs
        pairs: dict[str, PromptPair] = {}
        for turn in range(20 * wanted):
            word = synonyms[turn // 2 % len(synonyms)] if synonyms and turn % 2 else concept
            frame, word = self._varied(self.frame(templates), word)
            text = fill(frame, word)
            if text in pairs or len(encoder.token_ids(text)) > encoder.max_tokens:
                continue
            tokens = concept_tokens(encoder, text, [word])
            pairs[text] = PromptPair(text, fill(frame, anchor), word, tokens, frame)
            if len(pairs) == wanted:
                break
        return tuple(pairs.values())

    def frame(self, templates: Sequence[str]) -> str:
        """One template with its other slots filled, and its phrases perhaps in another order."""
        usable = [one for one in templates if self._is_clean(one)] or [SLOT]
        phrases = _pick(usable, self.rng).split(", ")
        if _chance(self.request.shuffled, self.rng):
            details = _shuffle(
                [one for one in self.vocabulary.details if self._is_clean(one)], self.rng
            )
            fewest = 1 if len(phrases) == 1 else 0
            phrases = _shuffle(phrases + details[: fewest + _below(2, self.rng)], self.rng)
        return self._filled(", ".join(phrases))

    def keep_prompts(
        self, irrelevant: Sequence[str], pairs: Sequence[PromptPair]
    ) -> tuple[str, ...]:
        """The person's prompts, irrelevant concepts in sentences, anchors, the bank's, and ""."""
        prompts = [one for line in self.request.keep for one in self._sentences_about(line)]
        prompts += [one for word in irrelevant for one in self._sentences_about(word)]
        anchors = _shuffle([pair.anchor_prompt for pair in pairs], self.rng)
        prompts += list(dict.fromkeys(anchors))[:KEEP_FROM_ANCHORS]
        prompts += _shuffle(list(self.vocabulary.keep), self.rng)[:KEEP_FROM_BANK]
        clean = [one for one in prompts if not contains(one, self.request.wordings)]
        return tuple(dict.fromkeys([*clean, ""]))

    def _sentences_about(self, line: str) -> list[str]:
        """The line itself where it is a prompt; sentences from templates where it is bare words."""
        has_article = OPENS_WITH_ARTICLE.match(line)
        if has_article or len(line.split()) > 3 or re.search(r"[,.;:]", line):
            return [line]
        kind = self.request.kind
        category = self.vocabulary.category_of([line], kind)
        templates = self.vocabulary.templates_for(category, kind)
        return [fill(self.frame(templates), line) for _ in range(KEEP_PER_WORD)]

    def _is_clean(self, text: str) -> bool:
        blank = re.sub(r"\{\w+\}", " , ", text)
        return not contains(blank, self.request.wordings)

    def _filled(self, frame: str) -> str:
        """The frame with a word in every slot but the concept's, none of them twice."""
        while slot := re.search(r"\{(a_)?((?!c\})\w+)\}", frame.replace(NOUN_SLOT, SLOT)):
            words = [one for one in self.vocabulary.fillers[slot[2]] if self._is_clean(one)]
            unused = [one for one in words if not contains(frame, [one])] or words or ["thing"]
            word = _pick(unused, self.rng)
            frame = frame.replace(slot[0], with_article(word) if slot[1] else word, 1)
        return frame

    def _varied(self, frame: str, word: str) -> tuple[str, str]:
        """Now and then the word misspelled, or said three times."""
        if not _chance(self.request.varied, self.rng):
            return frame, word
        if _chance(0.5, self.rng):
            return f"{frame}, {SLOT}, {SLOT}", word
        return frame, _misspelled(word, self.rng)


def _with_synonyms(request: ConceptRequest) -> tuple[ConceptRequest, tuple[str, ...]]:
    """The request with synonyms from WordNet where it names none, and a note that says so."""
    if request.synonyms:
        return request, ()
    found = _wordnet_synonyms(request.concept, request.kind)
    taken = (*request.keep, *request.prompts, request.replacement)
    found = [word for word in found if not any(contains(text, [word]) for text in taken)]
    if found:
        note = f"Synonyms from WordNet: {', '.join(found)}."
        return replace(request, synonyms=tuple(found)), (note,)
    note = (
        "No synonyms: none were given and WordNet has none here. Other wordings are erased only "
        "as far as the model takes them for the concept; name one or two to be sure."
    )
    return request, (note,)


def _wordnet_synonyms(concept: str, kind: Kind) -> list[str]:
    """Other wordings of the concept's commonest sense, where `nltk` and its data are installed."""
    if kind not in WORDNET_PART:
        return []
    try:
        wordnet = importlib.import_module("nltk.corpus").wordnet
        senses = wordnet.synsets(concept.replace(" ", "_"), pos=WORDNET_PART[kind])
    except (ImportError, LookupError):
        return []
    names = [name.replace("_", " ") for sense in senses[:1] for name in sense.lemma_names()]
    return [name for name in names if not _clash(name, [concept])][:MOST_SYNONYMS]


def _check_token_limit(request: ConceptRequest, encoder: TextEncoder) -> None:
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


def _spread(ranked: Sequence[str]) -> tuple[str, ...]:
    """The last, the middle and the first of words ranked nearest first, without repetition."""
    if not ranked:
        return ()
    return tuple(dict.fromkeys((ranked[-1], ranked[len(ranked) // 2], ranked[0])))


def _misspelled(word: str, rng: Generator) -> str:
    """The word with two inner letters of its longest part exchanged, or one of them doubled."""
    longest = max(re.findall(r"\w+", word), key=len)
    if len(longest) < 4:
        return word
    at = 1 + _below(len(longest) - 3, rng)
    left, right = longest[at], longest[at + 1]
    swapped = longest[:at] + right + left + longest[at + 2 :]
    doubled = longest[:at] + left + longest[at:]
    return word.replace(longest, swapped if left != right else doubled, 1)


def _below(limit: int, rng: Generator) -> int:
    return int(torch.randint(limit, (1,), generator=rng))


def _chance(share: float, rng: Generator) -> bool:
    return float(torch.rand(1, generator=rng)) < share


def _pick(options: Sequence[str], rng: Generator) -> str:
    return options[_below(len(options), rng)]


def _shuffle(items: Sequence[str], rng: Generator) -> list[str]:
    return [items[int(index)] for index in torch.randperm(len(items), generator=rng)]
