"""From a person's words to the prompts of a training run: `plan_concept`.

No language model and no network: sentence templates, a word bank, and the loaded text encoder's
own idea of what is similar. The same request, encoder and vocabulary give the same plan.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import chain, zip_longest

import torch
from torch import Generator, Tensor
from torch.nn.functional import cosine_similarity

from ..interfaces import Conditioning, TextEncoder
from .everyday import PICTURES
from .grammar import OPENS_WITH_ARTICLE, contains, fill, frame_of
from .plan import ConceptPlan, PromptPair
from .prompt_writer import SentenceWriter, chance, shuffle, varied
from .request import ConceptRequest
from .token_positions import concept_tokens
from .vocabulary import Kind, Vocabulary

CANDIDATES = 64  # words of the bank compared with the concept: each costs a text encoding
ENCODED_AT_ONCE = 16
KEEP_FROM_BANK, KEEP_FROM_ANCHORS, KEEP_NEIGHBOURS, KEEP_PER_WORD = 24, 8, 12, 2
MOST_TRIES = 20  # sentences drawn for each one wanted: small vocabularies repeat themselves
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
    draft = _draft(request, vocabulary)
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
        keep=draft.keep_prompts((*irrelevant, *draft.neighbours(ranked)), pairs),
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
    pooled = torch.cat([_vectors(encoder.encode(batch)) for batch in batches])
    similarity = cosine_similarity(pooled[1:], pooled[:1]).nan_to_num()  # (words,)
    order = torch.sort(similarity, descending=True, stable=True).indices
    return tuple(words[int(index)] for index in order)


def _vectors(cond: Conditioning) -> Tensor:
    """(B, P) float32 on the CPU: pooled vectors, else the mean over a prompt's tokens."""
    vectors = (one.text.mean(0) if one.pooled is None else one.pooled for one in cond.prompts)
    return torch.stack(list(vectors)).float().cpu()


def _draft(request: ConceptRequest, vocabulary: Vocabulary) -> _Draft:
    rng = Generator().manual_seed(request.seed)
    category = vocabulary.category_of(request.wordings, request.kind)
    writer = SentenceWriter(vocabulary, request.erased, request.shuffled, rng)
    return _Draft(request, vocabulary, category, writer)


@dataclass(frozen=True)
class _Draft:
    """A plan in the making."""

    request: ConceptRequest
    vocabulary: Vocabulary
    category: str  # the bank's category of the concept, or ""
    writer: SentenceWriter

    def candidates(self) -> tuple[str, ...]:
        """Words of the bank that are not the concept: its own category, then others at random."""
        kind = self.request.kind
        own = self.vocabulary.categories.get(self.category)
        near = list(own.words) if own else []
        others = [word for word in self.vocabulary.words_of(kind) if word not in near]
        if len(near) + len(others) < CANDIDATES // 8:
            others += [word for word in self.vocabulary.words_of("object") if word not in others]
        erased = (*self.request.erased, *filter(None, [self.request.replacement]))
        words = near + shuffle(others, self.writer.rng)
        return tuple(word for word in words if not _clash(word, erased))[:CANDIDATES]

    def anchor(self, ranked: Sequence[str]) -> tuple[str, str]:
        """What stands in for the concept, and why; "" leaves the words out."""
        concept, kind = self.request.concept, self.request.kind
        if self.request.replacement:
            return self.request.replacement, "What appears instead was chosen by you."
        opposite = self.vocabulary.opposites.get(concept.lower(), "")
        neutral = self.vocabulary.neutral.get(kind, "")
        for word in (opposite, neutral):
            if word and not _clash(word, self.request.erased):
                return word, f"'{word}' appears instead: its picture does not show the concept."
        known = self.vocabulary.categories.get(self.category)
        others = [word for word in ranked if known and word in known.words]
        if known and others and not known.plain:
            middle = others[len(others) // 2]
            return middle, (
                f"'{middle}' appears instead: another {self.category}, not so near to "
                f"'{concept}' that a picture between the two would still show it."
            )
        if known:
            return "", "The words are left out: a picture whose prompt lacks them lacks the thing."
        return "", (
            f"The words are left out, because the word bank does not know '{concept}'. If pictures "
            "without the words still show it, name what should appear instead."
        )

    def neighbours(self, ranked: Sequence[str]) -> tuple[str, ...]:
        """What an erasure is likeliest to harm: the concept's own category, the nearest first."""
        known = self.vocabulary.categories.get(self.category)
        near = [word for word in ranked if known and word in known.words]
        return tuple(near or ranked)[:KEEP_NEIGHBOURS]

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
        request, rng = self.request, self.writer.rng
        pairs: dict[str, PromptPair] = {}
        for turn in range(MOST_TRIES * request.pairs):
            synonym = (
                request.synonyms[turn // 2 % len(request.synonyms)] if request.synonyms else ""
            )
            word = synonym if synonym and turn % 2 else request.concept
            frame = self.writer.frame(self.category, request.kind)
            if chance(request.varied, rng):
                frame, word = varied(frame, word, rng)
            text, anchor_text = fill(frame, word), fill(frame, anchor)
            fits = len(encoder.token_ids(text)) <= encoder.max_tokens
            if text in pairs or not fits or not self.writer.is_clean(anchor_text):
                continue
            tokens = concept_tokens(encoder, text, [word])
            pairs[text] = PromptPair(text, anchor_text, word, tokens, frame)
            if len(pairs) == request.pairs:
                break
        return tuple(pairs.values())

    def keep_prompts(self, concepts: Sequence[str], pairs: Sequence[PromptPair]) -> tuple[str, ...]:
        """The person's prompts, other concepts in sentences, anchors, the bank's, and ""."""
        rng, kind = self.writer.rng, self.request.kind
        prompts: list[str] = []
        for line in dict.fromkeys((*self.request.keep, *concepts)):
            bare = _is_bare(line)
            prompts += [
                self.writer.about(line, kind) if bare else line for _ in range(KEEP_PER_WORD)
            ]
        anchors = dict.fromkeys(shuffle([pair.anchor_prompt for pair in pairs], rng))
        prompts += list(anchors)[:KEEP_FROM_ANCHORS]
        prompts += shuffle(self.vocabulary.keep, rng)[:KEEP_FROM_BANK]
        return tuple(dict.fromkeys([*filter(self.writer.is_clean, prompts), ""]))


def _with_synonyms(request: ConceptRequest) -> tuple[ConceptRequest, tuple[str, ...]]:
    """The request with synonyms from WordNet where it names none, and a note that says so."""
    if request.synonyms:
        return request, ()
    found = _wordnet_synonyms(request.concept, request.kind)
    taken = (*request.keep, *request.prompts, *request.also_erased, request.replacement)
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
        from nltk.corpus import wordnet

        senses = wordnet.synsets(concept.replace(" ", "_"), pos=WORDNET_PART[kind])
    except (ImportError, LookupError):
        return []
    names = [name.replace("_", " ") for sense in senses[:1] for name in sense.lemma_names()]
    return [name for name in names if not _clash(name, [concept])][:MOST_SYNONYMS]


def _check_token_limit(request: ConceptRequest, encoder: TextEncoder) -> None:
    """Raises ValueError before anything is encoded, which is work for a device."""
    for word in request.wordings:
        count = len(encoder.token_ids(word))
        if count > encoder.max_tokens:
            raise ValueError(
                f"Concept '{word}' has {count} tokens, expected at most {encoder.max_tokens}, "
                "which is all the model reads of a prompt. Use fewer words."
            )
    for prompt in request.prompts:
        concept_tokens(encoder, prompt, request.wordings)


def _clash(word: str, others: Sequence[str]) -> bool:
    """Whether two wordings name one thing, or one is part of the other's words."""
    return contains(word, others) or any(contains(other, [word]) for other in others)


def _is_bare(line: str) -> bool:
    """Whether a keep line is a concept, to be put into sentences, and not a prompt already."""
    a_few_words = len(line.split()) <= 3 and not re.search(r"[,.;:]", line)
    return a_few_words and not re.match(OPENS_WITH_ARTICLE, line)


def _spread(ranked: Sequence[str]) -> tuple[str, ...]:
    """The last, the middle and the first of words ranked nearest first, without repetition."""
    if not ranked:
        return ()
    return tuple(dict.fromkeys((ranked[-1], ranked[len(ranked) // 2], ranked[0])))


def plan_together(
    requests: Sequence[ConceptRequest], encoder: TextEncoder, *, vocabulary: Vocabulary = PICTURES
) -> ConceptPlan:
    """The plan that erases all of the requests' concepts; no sentence of one names another.

    Raises ValueError as `plan_concept` does, and where two requests name one thing.
    """
    if len(requests) == 1:
        return plan_concept(requests[0], encoder, vocabulary=vocabulary)
    plans = []
    for request in requests:
        others = [other.wordings for other in requests if other is not request]
        told = replace(request, also_erased=tuple(chain.from_iterable(others)))
        plans.append(plan_concept(told, encoder, vocabulary=vocabulary))
    return joined(plans)


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
