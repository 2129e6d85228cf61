"""Which token of the anchor's prompt stands for each token of the concept's prompt."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher

import torch
from torch import Tensor

MOST_PADDING = 16  # tokens of a prompt: the rest of them is like these
ITSELF = -1


@dataclass(frozen=True)
class StandIns:
    """K tokens of one concept prompt."""

    tokens: Tensor  # (K,) their positions
    becomes: Tensor  # (K,) positions in the anchor's prompt; -1 where a token stays itself
    own: Tensor  # (K,) bool: the concept's own


def stand_ins(
    concept: Sequence[int],
    anchor: Sequence[int],
    lengths: tuple[int, int],
    *,
    own: Collection[int],
    common: Collection[int],
    marks: int = 1,
) -> StandIns:
    """Tokens of both prompts, matched as in a comparison of two texts.

    What is replaced is matched from its end, since pieces of a word end alike; marks are matched
    with marks. A token that has no counterpart becomes padding, or where there is none what the
    token behind it becomes; but for a piece that other prompts have as well, such as the bare mark
    of a word's start: it stays itself.

    Args:
        concept, anchor: ids of the prompts' own tokens; marks and padding stand behind them.
        lengths: of both with these; where nobody pads they may be two.
        own: positions of the concept's tokens.
        common: ids that prompts without the concept have, too.
        marks: how many tokens every prompt has, its end mark and others.
    """
    matched = {len(concept) + mark: len(anchor) + mark for mark in range(marks)}
    blocks = SequenceMatcher(None, concept, anchor, autojunk=False).get_opcodes()
    for _, start, end, other_start, other_end in blocks:
        for back in range(1, 1 + min(end - start, other_end - other_start)):
            matched[end - back] = other_end - back
    taken = set(matched.values())
    length, anchor_length = lengths
    padded = anchor_length > len(anchor) + marks
    free = [at for at in range(anchor_length) if at not in taken] if padded else []
    unmatched = [token for token in range(length) if token not in matched]
    for token in unmatched if free else reversed(unmatched):
        if token in own and concept[token] in common:
            matched[token] = ITSELF
        elif free:
            matched[token] = free.pop(-1 if token in own else 0)
        else:
            matched[token] = matched.get(token + 1, ITSELF) if token in own else ITSELF
    tokens = read_tokens(len(concept) + marks, length)
    becomes = [matched[token] for token in tokens.tolist()]
    return StandIns(tokens, torch.tensor(becomes), torch.isin(tokens, torch.tensor([*own])))


def read_tokens(count: int, length: int) -> Tensor:
    """Positions of a prompt's first `count` tokens and of some of the padding behind them."""
    padding = range(count, length)
    first, rest = padding[: MOST_PADDING // 2], padding[MOST_PADDING // 2 :]
    some = min(MOST_PADDING // 2, len(rest))
    spread = [rest[index * len(rest) // some] for index in range(some)]
    return torch.tensor([*range(min(count, length)), *first, *spread])
