"""Rows of tokens as ComfyUI's tokenizers write them: marks, a chat's template, padding."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ...families.family import Encoder
from ...interfaces import TextPart

Row = Sequence[tuple[Any, float]]  # ids with their weights


def is_chat(tokenizer: Any) -> bool:
    """Whether a CLIP's tokenizer puts prompts into what a user says to a language model."""
    return hasattr(tokenizer, "llama_template")


@dataclass(frozen=True)
class RowReader:
    """Where a prompt stands in the rows of one tokenizer."""

    tokenizer: Any
    before: int  # tokens in front of the prompt
    behind: int | None  # of a chat, tokens behind the prompt; None: an end mark, if any
    headless: bool  # those in front don't reach the net

    @classmethod
    def of(
        cls,
        tokenizers: Any,
        encoder: Encoder,
        tokens: Callable[[str], dict[str, Any]],
        *,
        headless: bool,
    ) -> RowReader:
        """Of a CLIP's tokenizers the one that writes the tokens of `encoder`."""
        key, name = encoder
        tokenizer = getattr(tokenizers, name, None) or getattr(tokenizers, f"clip_{key}")
        if not is_chat(tokenizers):
            return cls(tokenizer, tokenizer.tokens_start, None, headless)
        empty, some = (_unpadded(tokenizer, tokens(text)[key][0]) for text in ("", "x"))
        before = next(at for at, (a, b) in enumerate(zip(empty, some, strict=False)) if a != b)
        return cls(tokenizer, before, len(empty) - before, headless)

    def own(self, row: Row) -> tuple[list[int], int]:
        """The ids of a row's prompt, and where they begin in the row."""
        ids = _unpadded(self.tokenizer, row) if self.behind else [int(token) for token, _ in row]
        rest = ids[self.before :]
        if self.behind:
            return rest[: -self.behind], self.before
        end = self.tokenizer.end_token
        return (rest[: rest.index(end)] if end in rest else rest), self.before

    def length(self, rows: Sequence[Row]) -> int:
        """How many tokens of theirs reach the net."""
        return sum(map(len, rows)) - (self.before if self.headless else 0)

    def part(self, rows: Sequence[Row], start: int, stop: int) -> TextPart:
        """Where these rows' tokens stand in the text, between `start` and `stop`."""
        ids, places, ends, starts = [], [], [], []
        at = start - (self.before if self.headless else 0)
        for row in rows:
            own, first = self.own(row)
            ids += own
            places += range(at + first, at + first + len(own))
            end = at + first + len(own)
            ends += range(end, end + (self.behind or 1))
            starts += range(max(at, start), at + first)
            at += len(row)
        head = () if self.behind is None else tuple(starts)
        marks = [mark for mark in (*ends, *(() if head else starts)) if mark < stop]
        known = {*places, *marks, *head}
        padding = tuple(place for place in range(start, stop) if place not in known)
        return TextPart(tuple(ids), tuple(places), tuple(marks), padding, head)

    def pad(self, rows: list[list[tuple[Any, float]]], length: int) -> None:
        """Makes a single row `length` tokens long, where the host pads such rows as well."""
        if len(rows) == 1 and (self.tokenizer.min_length or 1) > 1:
            rows[0].extend([(self.tokenizer.pad_token, 1.0)] * (length - len(rows[0])))


def _unpadded(tokenizer: Any, row: Row) -> list[int]:
    """The ids without the padding at their end."""
    ids = [int(token) for token, _ in row]
    while ids and ids[-1] == tokenizer.pad_token:
        ids.pop()
    return ids
