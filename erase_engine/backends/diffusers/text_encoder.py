"""A pipeline's text encoders, as the engine wants to see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from ...concepts.token_positions import positions_in
from ...interfaces import Conditioning, Prompt, TextPart
from ..mean_vectors import mean_vectors

CLIP_TOKENS = 77
ENCODED_AT_ONCE = 16  # prompts


@dataclass(frozen=True)
class _Encoder:
    """One tokenizer and its model."""

    tokenizer: Any
    model: Any

    @property
    def before(self) -> int:
        """Tokens in front of a prompt's own; one with such a mark reads texts of one length."""
        return len(self.tokenizer("").input_ids) - 1

    def token_ids(self, text: str) -> list[int]:
        """Ids of the text's own tokens."""
        return self.tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    def __call__(self, texts: Sequence[str], length: int, **options: Any) -> Any:
        """The model's output for texts of `length` tokens; longer ones are cut off."""
        ids = self.tokenizer(
            list(texts),
            padding="max_length",
            max_length=length,
            truncation=True,
            return_tensors="pt",
        ).input_ids
        return self.model(ids.to(self.model.device), **options)

    def part(self, text: str, start: int, length: int, limit: int) -> TextPart:
        """Where a text's tokens stand, of a stretch of `length` from `start` on."""
        ids, first = self.token_ids(text), start + self.before
        count = min(len(ids), limit, length - self.before - 1)
        end = first + count
        return TextPart(
            tuple(ids[:count]),
            tuple(range(first, end)),
            (end, *range(start, first)),
            tuple(range(end + 1, start + length)),
        )


class DiffusersTextEncoder:
    """`TextEncoder` on a pipeline's encoders, each a tokenizer and a model.

    Args:
        words: which of them make each part of the net's text, side by side.
        pooled: which of them make the pooled vector, side by side.
        shortest: tokens that the last part is padded to at least; ComfyUI pads to as many. All
            texts are then padded to one length; with 1 none is padded.
        longest: tokens of it that the model reads, the end mark included.
    """

    def __init__(
        self,
        *encoders: tuple[Any, Any],
        words: tuple[tuple[int, ...], ...] = ((1,),),
        pooled: tuple[int, ...] = (0,),
        shortest: int = 256,
        longest: int = 512,
    ) -> None:
        every = [_Encoder(*each) for each in encoders]
        self._words = [[every[at] for at in part] for part in words]
        self._pooled = [every[at] for at in pooled]
        self._shortest = shortest
        self.max_tokens = longest - 1

    def token_ids(self, text: str) -> list[int]:
        """Ids of the text's own tokens, in order: no padding, no end mark; of the last part."""
        return self._words[-1][0].token_ids(text)

    def parts(self, text: str, length: int) -> tuple[TextPart, ...]:
        """Each part of a text that is `length` tokens long; the last takes what is left of it."""
        *first, last = (some[0] for some in self._words)
        found = [
            each.part(text, CLIP_TOKENS * number, CLIP_TOKENS, CLIP_TOKENS)
            for number, each in enumerate(first)
        ]
        start = CLIP_TOKENS * len(first)
        return (*found, last.part(text, start, length - start, self.max_tokens))

    def positions(self, prompt: str, span: tuple[int, int] | None = None) -> tuple[int, ...]:
        """Positions of a span's tokens, or of all that the model reads, in each part."""
        found: list[int] = []
        whole = CLIP_TOKENS * (len(self._words) - 1) + self.max_tokens + 1
        parts = self.parts(prompt, whole)
        for (each, *_), part in zip(self._words, parts, strict=True):
            limit = len(part.places)
            found += (part.places[at] for at in positions_in(each.token_ids, prompt, span, limit))
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
        vectors = []
        for part in _parts(texts):
            vectors.append(self._vectors(part).float().cpu())
            for _ in part:
                on_text()
        return torch.cat(vectors)

    @torch.no_grad()
    def encode(
        self,
        prompts: Sequence[str],
        *,
        dtype: torch.dtype = torch.float32,
        on_prompt: Callable[[], None] = lambda: None,
    ) -> Conditioning:
        """As the pipeline has them, in `dtype` on the CPU; equal texts share one."""
        own = {text: len(self.token_ids(text)) for text in dict.fromkeys(prompts)}
        if self._shortest > 1:
            own = dict.fromkeys(own, max(self._shortest - 1, *own.values()))
        width = self._words[-1][0].model.config.d_model
        encoded: dict[str, Prompt] = {}
        for length in dict.fromkeys(own.values()):
            some = [text for text, each in own.items() if each == length]
            length = min(length, self.max_tokens) + 1
            whole = CLIP_TOKENS * (len(self._words) - 1) + length
            rows = iter(torch.empty(len(some), whole, width, dtype=dtype))
            for part in _parts(some):
                pooled = self._vectors(part) if self._pooled else [None] * len(part)
                texts = self._texts(part, length, width)
                for prompt, text, vector in zip(part, texts, pooled, strict=True):
                    kept = None if vector is None else vector.to("cpu", dtype)
                    encoded[prompt] = Prompt(next(rows).copy_(text), kept)
                    on_prompt()
        return Conditioning(tuple(encoded[prompt] for prompt in prompts))

    def _texts(self, texts: Sequence[str], length: int, width: int) -> Tensor:
        """(B, T, D): part behind part; narrower ones are filled up with zeros."""
        *first, (last, *_) = self._words
        parts = []
        for some in first:
            found = [
                each(texts, CLIP_TOKENS, output_hidden_states=True).hidden_states[-2]
                for each in some
            ]
            features = torch.cat(found, dim=-1)
            parts.append(pad(features, (0, width - features.shape[-1])))
        parts.append(last(texts, length).last_hidden_state)
        return torch.cat([part.to(parts[-1]) for part in parts], dim=1)

    def _vectors(self, texts: Sequence[str]) -> Tensor:
        """(B, P), projected where the encoder does."""
        found = [each(texts, CLIP_TOKENS) for each in self._pooled]
        return torch.cat(
            [
                out.text_embeds if hasattr(out, "text_embeds") else out.pooler_output
                for out in found
            ],
            dim=-1,
        )


def _parts(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[at : at + ENCODED_AT_ONCE] for at in range(0, len(texts), ENCODED_AT_ONCE)]
