"""One plan out of several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, zip_longest

from ..validation import shortened
from .grammar import contains
from .plan import ConceptPlan


def joined(plans: Sequence[ConceptPlan]) -> ConceptPlan:
    """One plan out of several, their sentences by turns.

    What names a word that another of them erases is left out; where it is what a concept becomes,
    the nearest of its plan's irrelevant words takes its place. It contrasts nothing: a synonym of
    one concept is none of the next, and a picture that is irrelevant to one may show another.

    Raises ValueError where nothing is left to erase of one of them, or nothing to keep.
    """
    erased = tuple(dict.fromkeys(chain.from_iterable(plan.wordings for plan in plans)))
    plans = [_beside_others(plan, erased) for plan in plans]
    turns = chain.from_iterable(zip_longest(*(plan.pairs for plan in plans)))
    keep = dict.fromkeys(chain.from_iterable(plan.keep for plan in plans))
    held = dict.fromkeys(chain.from_iterable(plan.held for plan in plans))
    return ConceptPlan(
        concept=" + ".join(plan.concept for plan in plans),
        kind=plans[0].kind,
        anchor=", ".join(plan.anchor or "nothing" for plan in plans),
        synonyms=erased,
        irrelevant=(),
        keep=tuple(keep),
        pairs=tuple(pair for pair in turns if pair is not None),
        notes=tuple(f"{plan.concept}: {note}" for plan in plans for note in plan.notes),
        held=tuple(text for text in held if text not in keep),
        concepts=sum(plan.concepts for plan in plans),
    )


def _beside_others(plan: ConceptPlan, erased: Sequence[str]) -> ConceptPlan:
    """The plan without sentences that name what is erased, but for its own concept's."""
    anchors = (plan.anchor, *reversed(plan.irrelevant))
    anchor = next((word for word in anchors if not contains(word, erased)), plan.anchor)
    pairs = plan.pairs
    if anchor != plan.anchor:
        pairs = [replace(pair, anchor_prompt=pair.swap(anchor)) for pair in pairs]
    pairs = [pair for pair in pairs if not contains(pair.anchor_prompt, erased)]
    keep, held = (
        tuple(text for text in some if not contains(text, erased))
        for some in (plan.keep, plan.held)
    )
    if not pairs or not keep:
        raise ValueError(
            f"Got a plan for '{shortened(plan.concept)}' of which {len(pairs)} prompt pairs and "
            f"{len(keep)} keep prompts name none of {shortened(', '.join(erased))}, expected at "
            "least one of each. Plan these concepts together, with Concept Plan's join."
        )
    irrelevant = tuple(word for word in plan.irrelevant if not contains(word, erased))
    return replace(
        plan, anchor=anchor, pairs=tuple(pairs), keep=keep, held=held, irrelevant=irrelevant
    )
