"""ComfyUI's loaded text encoders, as the engine wants to see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...concepts.request import LONGEST_SENTENCE
from ...concepts.token_positions import positions_in
from ...families.family import Encoder
from ...families.registry import family_of_tokenizers
from ...interfaces import Conditioning, Prompt, TextPart
from ...validation import shortened
from .guards import ordinary


class ComfyTextEncoder:
    """`TextEncoder` on a ComfyUI CLIP, of the family whose tokenizers it has.

    Prompts are taken literally: parentheses and numbers are words, not weights.
    """

    def __init__(self, clip: Any, *, max_tokens: int = 512) -> None:
        self.family = family_of_tokenizers(clip.tokenize(""))
        self._clip = clip
        stage = clip.cond_stage_model  # an encoder may have been left out of it
        there = [[one for one in part if has(stage, one)] for part in self.family.words]
        self._words = [part for part in there if part]
        self._pooled = [one for one in self.family.pooled if has(stage, one)]
        if not self._words or not self._pooled:
            raise ValueError(
                f"Got text encoders without those that {self.family.name} takes its text and its "
                f"pooled vector from, expected them. Load them with {self.family.text_loader}."
            )
        self.max_tokens = max_tokens

    def token_ids(self, text: str) -> list[int]:
        """Ids of the text's own tokens, in order: no padding, no end mark; of the last part."""
        return self._ids(self._words[-1], text)

    def parts(self, text: str, length: int) -> tuple[TextPart, ...]:
        """Each part of a text that is `length` tokens long; the last takes what is left of it."""
        return self._parts(self._tokens(text), length)

    def _parts(self, tokens: dict[str, Any], length: int | None) -> tuple[TextPart, ...]:
        """Of what a text was tokenized to; without a `length` the last is as long as its tokens."""
        found, start = [], 0
        for words in self._words:
            stop = start + min(_length(tokens[key]) for key, _ in words)
            if length is not None and words is self._words[-1]:
                stop = length
            (key, name), *_ = words
            found.append(_part(getattr(self._clip.tokenizer, name), tokens[key], start, stop))
            start = stop
        return tuple(found)

    def positions(self, prompt: str, span: tuple[int, int] | None = None) -> tuple[int, ...]:
        """Positions of a span's tokens, or of all that the model reads, in each part."""
        found: list[int] = []
        parts = self._parts(self._tokens(prompt), None)
        for words, part in zip(self._words, parts, strict=True):
            ids = partial(self._ids, words)
            found.extend(part.places[at] for at in positions_in(ids, prompt, span, self.max_tokens))
        return tuple(found)

    @torch.no_grad()
    def vectors(
        self, texts: Sequence[str], *, on_text: Callable[[], None] = lambda: None
    ) -> Tensor:
        """(N, P) float32 on the CPU: the pooled vectors that `encode` gives, and no more is run."""
        stage = self._clip.cond_stage_model
        stage.reset_clip_options()  # as the host's encode_from_tokens does
        if self._clip.layer_idx is not None:
            stage.set_clip_options({"layer": self._clip.layer_idx})
        self._clip.load_model()
        vectors = []
        for text in texts:
            tokens = self._tokens(text)
            pooled = [
                getattr(stage, name).encode_token_weights(tokens[key])[1]
                for key, name in self._pooled
            ]
            vectors.append(ordinary(torch.cat(pooled, dim=-1))[0].float().cpu())
            on_text()
        return torch.stack(vectors)

    @torch.no_grad()
    def encode(
        self,
        prompts: Sequence[str],
        *,
        dtype: torch.dtype = torch.float32,
        on_prompt: Callable[[], None] = lambda: None,
    ) -> Conditioning:
        """As CLIP Text Encode gives them, padded to one length, in `dtype`; equal texts share one.

        One at a time into buffers made before: the host's own, in float32, would leave holes of up
        to their size between those that are kept.
        """
        tokens = {prompt: self._tokens(prompt) for prompt in prompts}
        (key, _), *_ = self._words[-1]
        length = max(_length(each[key]) for each in tokens.values())
        buffers: dict[Any, list[Tensor]] = {}
        encoded = {}
        for row, (prompt, each) in enumerate(tokens.items()):
            features = self._encode_one(each, length)
            shapes = tuple(x.shape for x in features)
            if shapes not in buffers:  # other prompts of many chunks have others
                buffers[shapes] = [
                    x.new_empty(len(tokens), *x.shape, dtype=dtype) for x in features
                ]
            kept = [b[row].copy_(x) for b, x in zip(buffers[shapes], features, strict=True)]
            encoded[prompt] = Prompt(*kept)
            on_prompt()
        return Conditioning(tuple(encoded[prompt] for prompt in prompts))

    def _ids(self, words: Sequence[Encoder], text: str) -> list[int]:
        """Ids of a text's own tokens, by one part's tokenizer."""
        (key, name), *_ = words
        tokenizer = getattr(self._clip.tokenizer, name)
        return [id for row in self._tokens(text)[key] for id, _ in _own(tokenizer, row)]

    def _tokens(self, text: str) -> dict[str, Any]:
        """ValueError for a text that is no prompt: the host reads any length, in any memory."""
        if len(text) > LONGEST_SENTENCE:
            raise ValueError(
                f"Got the prompt '{shortened(text)}' of {len(text)} letters, expected at most "
                f"{LONGEST_SENTENCE}. Shorten it."
            )
        return self._clip.tokenize(text, disable_weights=True)

    def _encode_one(self, tokens: dict[str, Any], length: int) -> tuple[Tensor, Tensor]:
        """Padded, where the last part's tokens stand in one row."""
        for key, name in self._words[-1]:
            if len(tokens[key]) == 1:
                padding = (getattr(self._clip.tokenizer, name).pad_token, 1.0)
                tokens[key][0].extend([padding] * (length - len(tokens[key][0])))
        text, pooled = self._clip.encode_from_tokens(tokens, return_pooled=True)
        return ordinary(text)[0], ordinary(pooled)[0]


Rows = Sequence[Sequence[tuple[Any, float]]]  # of tokens, with their weights


def has(stage: Any, encoder: Encoder) -> bool:
    """Whether a CLIP has an encoder: loaders for fewer files leave some out."""
    return getattr(stage, encoder[1], None) is not None


def _length(rows: Rows) -> int:
    return sum(map(len, rows))


def _own(tokenizer: Any, row: Sequence[tuple[Any, float]]) -> list[tuple[int, int]]:
    """The ids of a row between its marks, and where they stand in it."""
    first, ids = tokenizer.tokens_start, [int(token) for token, _ in row]
    rest = ids[first:]
    count = rest.index(tokenizer.end_token) if tokenizer.end_token in rest else len(rest)
    return [(ids[at], at) for at in range(first, first + count)]


def _part(tokenizer: Any, rows: Rows, start: int, stop: int) -> TextPart:
    """Where the tokens of one tokenizer stand in the text, between `start` and `stop`."""
    ids, places, ends, starts = [], [], [], []
    at = start
    for row in rows:
        own = _own(tokenizer, row)
        ids += [id for id, _ in own]
        places += [at + place for _, place in own]
        ends.append(at + tokenizer.tokens_start + len(own))
        starts += range(at, at + tokenizer.tokens_start)
        at += len(row)
    marks = [mark for mark in (*ends, *starts) if mark < stop]
    known = {*places, *marks}
    padding = tuple(place for place in range(start, stop) if place not in known)
    return TextPart(tuple(ids), tuple(places), tuple(marks), padding)
