"""Which text tokens of a prompt are a word's."""

from __future__ import annotations

from collections.abc import Sequence

from ..interfaces import TextEncoder
from ..validation import shortened
from .grammar import spans


def concept_tokens(encoder: TextEncoder, prompt: str, wordings: Sequence[str]) -> tuple[int, ...]:
    """Indices of every token of the wordings in this very prompt, every occurrence.

    Occurrences past the model's token limit are not seen by the model and left out. Raises
    ValueError, naming concept and prompt, where no occurrence is there or all are cut off.
    """
    places = spans(prompt, wordings)
    if not places:
        raise ValueError(
            f"Concept '{wordings[0]}' is not in the prompt '{shortened(prompt)}'. "
            "Write it word for word, or leave the prompt empty."
        )
    ids = encoder.token_ids(prompt)
    ranges = [_tokens_of(encoder, prompt, ids, place) for place in places]
    limit = min(encoder.max_tokens, len(ids))
    tokens = {index for one in ranges if one.stop <= limit for index in one}
    if not tokens:
        raise ValueError(
            f"Concept '{wordings[0]}' is cut off in the prompt '{shortened(prompt)}': got its "
            f"tokens at {ranges[0].start} to {ranges[0].stop - 1}, expected them within the "
            f"first {limit}, which is all the model reads. Move the concept forward or shorten "
            "the prompt."
        )
    return tuple(sorted(tokens))


def _tokens_of(encoder: TextEncoder, prompt: str, ids: list[int], place: tuple[int, int]) -> range:
    """Tokens of one place, from how the prompt up to its start and up to its end is cut.

    Searching the prompt's ids for the word's own ids would find "car" in "carpet", and miss words
    that are cut differently after a bracket or in capitals.
    """
    start, end = place
    before = encoder.token_ids(prompt[:start].rstrip())
    through = encoder.token_ids(prompt[:end])
    first, last = _common(ids, before), _common(ids, through)
    if last == len(through):
        return range(first, max(last, first + 1))
    own = encoder.token_ids(prompt[start:end])
    for at in range(first, len(ids) - len(own) + 1):
        if ids[at : at + len(own)] == own:
            return range(at, at + len(own))
    return range(first, max(last, first) + 1)  # the last token goes on past the word


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading elements two sequences share."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
