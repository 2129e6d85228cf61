"""ComfyUI's loaded text encoders, as the engine wants to see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ...concepts.request import LONGEST_SENTENCE
from ...concepts.token_positions import positions_in
from ...families.family import Encoder, Family
from ...families.registry import text_of
from ...interfaces import Conditioning, Prompt, TextPart
from ...validation import shortened
from ..mean_vectors import mean_vectors
from .guards import ordinary
from .token_rows import RowReader, is_chat


class ComfyTextEncoder:
    """`TextEncoder` on a ComfyUI CLIP, of the family whose tokenizers it has.

    Prompts are taken literally: parentheses and numbers are words, not weights.

    Args:
        family: the model's, where there is a model; ValueError for another one's text encoders.
        width: numbers of a token as the model takes them; ValueError for another, in `encode`.
    """

    def __init__(
        self,
        clip: Any,
        *,
        max_tokens: int = 512,
        family: Family | None = None,
        width: int | None = None,
    ) -> None:
        tokenizer = type(getattr(clip, "tokenizer", None)).__name__
        self.family, text = text_of(clip.tokenize("").keys(), tokenizer, family)
        self._clip = clip
        stage = clip.cond_stage_model  # an encoder may have been left out of it
        there = [[one for one in part if has(stage, one)] for part in text.words]
        self._words = [part for part in there if part]
        self._pooled = [one for one in text.pooled if has(stage, one)]
        if not self._words or (text.pooled and not self._pooled):
            raise ValueError(
                f"Got text encoders without those that {self.family.name} takes its text and its "
                f"pooled vector from, expected them. Load them with {text.loader}."
            )
        # Tokenizers of chats take no weights, and no word about them either.
        self._options = {} if is_chat(clip.tokenizer) else {"disable_weights": True}
        self._rows = {
            one[0]: RowReader.of(clip.tokenizer, one, self._tokens, headless=text.headless)
            for one in text.encoders
        }
        self.max_tokens, self._width = max_tokens, width

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
            stop = start + min(self._rows[key].length(tokens[key]) for key, _ in words)
            if length is not None and words is self._words[-1]:
                stop = length
            (key, _), *_ = words
            found.append(self._rows[key].part(tokens[key], start, stop))
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
        """(N, P) float32 on the CPU: the pooled vectors that `encode` gives, and no more is run.

        Without pooled vectors: the mean of the text's own tokens, of all where it has none.
        """
        if not self._pooled:
            return mean_vectors(self, texts, on_text)
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
        """As CLIP Text Encode gives them, in `dtype`; equal texts share one.

        Where the host pads, all to one length. One at a time into buffers made before: the host's
        own, in float32, would leave holes of up to their size between those that are kept.
        """
        tokens = {prompt: self._tokens(prompt) for prompt in dict.fromkeys(prompts)}
        (key, _), *_ = self._words[-1]
        longest = max(sum(map(len, each[key])) for each in tokens.values())
        alike: dict[Any, list[str]] = {}
        for prompt, each in tokens.items():
            for name, _ in self._words[-1]:
                self._rows[name].pad(each[name], longest)
            lengths = tuple(sum(map(len, each[name])) for ((name, _), *_) in self._words)
            alike.setdefault(lengths, []).append(prompt)
        encoded = {}
        for some in alike.values():
            buffers: list[Tensor] = []
            for row, prompt in enumerate(some):
                text, pooled = self._clip.encode_from_tokens(tokens[prompt], return_pooled=True)
                self._check_width(text.shape[-1])
                both = (text, pooled if self._pooled else None)
                features = [ordinary(x)[0] for x in both if x is not None]
                buffers = buffers or [
                    x.new_empty(len(some), *x.shape, dtype=dtype) for x in features
                ]
                kept = [b[row].copy_(x) for b, x in zip(buffers, features, strict=True)]
                encoded[prompt] = Prompt(*kept)
                on_prompt()
        return Conditioning(tuple(encoded[prompt] for prompt in prompts))

    def _check_width(self, found: int) -> None:
        if self._width not in (None, found):
            raise ValueError(
                f"Got a text encoder that gives {found} numbers for a token, expected one that "
                f"gives {self._width}: models of the family {self.family.name} have one each. "
                "Load the one that belongs to this model."
            )

    def _ids(self, words: Sequence[Encoder], text: str) -> list[int]:
        """Ids of a text's own tokens, by one part's tokenizer."""
        (key, _), *_ = words
        rows = self._rows[key]
        return [id for row in self._tokens(text)[key] for id in rows.own(row)[0]]

    def _tokens(self, text: str) -> dict[str, Any]:
        """ValueError for a text that is no prompt: the host reads any length, in any memory, and
        its tokenizers no halves of letters.
        """
        if len(text) > LONGEST_SENTENCE:
            raise ValueError(
                f"Got the prompt '{shortened(text)}' of {len(text)} letters, expected at most "
                f"{LONGEST_SENTENCE}. Shorten it."
            )
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"Got the prompt '{shortened(text)}' with half a letter, {text[error.start]!a}, "
                "expected whole ones. Write it again."
            ) from error
        if not self._options:  # a template's last line would run into the text's first, if empty
            text = text.lstrip()
        return self._clip.tokenize(text, **self._options)


def has(stage: Any, encoder: Encoder) -> bool:
    """Whether a CLIP has an encoder: loaders for fewer files leave some out."""
    return getattr(stage, encoder[1], None) is not None
