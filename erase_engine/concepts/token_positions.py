"""Which text tokens of a prompt are a word's."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..interfaces import TextEncoder
from ..validation import shortened
from .grammar import spans


def concept_tokens(encoder: TextEncoder, prompt: str, wordings: Sequence[str]) -> tuple[int, ...]:
    """Positions of every token of the wordings in this very prompt, every occurrence.

    Occurrences past the model's token limit are not seen by the model and left out. Raises
    ValueError, naming concept and prompt, where no occurrence is there or all are cut off.
    """
    places = spans(prompt, wordings)
    if not places:
        raise ValueError(
            f"Got the concept '{shortened(wordings[0])}', which is not in the prompt "
            f"'{shortened(prompt)}', expected it there. Write it word for word, or leave the "
            "prompt empty."
        )
    tokens = {index for place in places for index in encoder.positions(prompt, place)}
    if not tokens:
        raise ValueError(
            f"Got the concept '{shortened(wordings[0])}', which is cut off in the prompt "
            f"'{shortened(prompt)}', expected it within the first {encoder.max_tokens} tokens, "
            "which are all that the model reads. Move the concept forward or shorten the prompt."
        )
    return tuple(sorted(tokens))


def positions_in(
    token_ids: Callable[[str], list[int]], prompt: str, span: tuple[int, int] | None, limit: int
) -> tuple[int, ...]:
    """`TextEncoder.positions` for one tokenizer: of the characters `span`, or of the whole prompt.

    `token_ids` gives a text's own ids, without padding and marks; `limit` is how many are read.
    """
    ids = token_ids(prompt)
    limit = min(limit, len(ids))
    if span is None:
        return tuple(range(limit))
    tokens = _tokens_of(token_ids, prompt, ids, span)
    return tuple(tokens) if tokens.stop <= limit else ()


def _tokens_of(
    token_ids: Callable[[str], list[int]], prompt: str, ids: list[int], span: tuple[int, int]
) -> range:
    """Tokens of one place, from how the prompt up to its start and up to its end is cut.

    Searching the prompt's ids for the word's own ids would find "car" in "carpet", and miss words
    that are cut differently after a bracket or in capitals.
    """
    start, end = span
    before = token_ids(prompt[:start].rstrip())
    through = token_ids(prompt[:end])
    first, last = _common(ids, before), _common(ids, through)
    if last == len(through):
        return range(first, max(last, first + 1))
    own = token_ids(prompt[start:end])
    for at in range(first, len(ids) - len(own) + 1):
        if ids[at : at + len(own)] == own:
            return range(at, at + len(own))
    return range(first, max(last, first) + 1)  # the last token goes on past the word


def _common(left: Sequence[int], right: Sequence[int]) -> int:
    """How many leading elements two sequences share."""
    pairs = zip(left, right, strict=False)
    return next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(left), len(right)))
