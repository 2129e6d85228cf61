"""From a person's words to the prompts of a training run: `plan_concept`.

No language model and no network: sentence templates, a word bank, and the loaded text encoder's
own idea of what is similar. The same request, encoder and vocabulary give the same plan.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import chain

import torch
from torch.nn.functional import cosine_similarity

from ..interfaces import TextEncoder
from ..validation import shortened
from .draft import CANDIDATES, Draft
from .everyday import PICTURES
from .grammar import contains
from .joining import joined
from .kept_sentences import held_sentences
from .plan import ConceptPlan
from .prompt_writer import SentenceWriter
from .request import ConceptRequest
from .vocabulary import Vocabulary

MOST_COMPARED = CANDIDATES + 1  # texts, for one concept
KEEP_NEIGHBOURS = 32
NO_SYNONYMS = (
    "No synonyms were given. Other words may still bring the concept: name one or two to be sure."
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
    raise to cancel. Raises ValueError, before any text is encoded, where the concept or a prompt
    is too long for the encoder, a line to keep says the concept, or an unknown relation has no
    replacement.
    """
    _check_token_limit(request, encoder)
    draft = Draft(SentenceWriter(request, vocabulary))
    draft.check()
    own = draft.own_sentences(encoder)
    ranked = rank_by_similarity(request.concept, draft.candidates(), encoder, on_text=on_text)
    anchor, reason = draft.anchor(ranked)
    pairs = tuple(replace(pair, anchor_prompt=pair.swap(anchor)) for pair in own)
    pairs += draft.template_pairs(anchor, encoder)
    others = [word for word in ranked if not contains(anchor, [word])]
    # The farthest, the middle and the nearest.
    spread = (others[-1], others[len(others) // 2], others[0]) if others else ()
    irrelevant = tuple(dict.fromkeys(spread))
    neighbours = (draft.known(ranked) or ranked)[:KEEP_NEIGHBOURS]  # what is likeliest to be harmed
    keep = draft.keep_prompts((*irrelevant, *neighbours), pairs)
    held = held_sentences(draft.writer, keep)
    if draft.writer.phrase:  # it is trained: what stays is shown to the training as well
        keep, held = (*keep, *held), ()
    notes = () if request.synonyms else (NO_SYNONYMS,)
    return ConceptPlan(
        concept=request.concept,
        kind=request.kind,
        anchor=anchor,
        synonyms=request.synonyms,
        irrelevant=irrelevant,
        keep=keep,
        pairs=pairs,
        notes=(*request.notes, *notes, reason),
        held=held,
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


def _check_token_limit(request: ConceptRequest, encoder: TextEncoder) -> None:
    """Raises ValueError before anything is encoded, which is work for a device."""
    for word in request.wordings:
        count = len(encoder.token_ids(word))
        if count > encoder.max_tokens:
            raise ValueError(
                f"Got the concept '{shortened(word)}' of {count} tokens, expected at most "
                f"{encoder.max_tokens}, which is all the model reads of a prompt. Use fewer words."
            )


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
