"""Several concepts in one LoRA: one plan out of a request for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, zip_longest

from .backends.base import TextEncoder
from .concept import plan_concept
from .plan import ConceptPlan, ConceptRequest
from .words import PICTURES, Vocabulary


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
