"""A pipeline's text encoders, as the engine wants to see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...concepts.token_positions import only_part, positions_in
from ...interfaces import Conditioning, Prompt, TextPart

CLIP_TOKENS = 77
ENCODED_AT_ONCE = 16  # prompts


class DiffusersTextEncoder:
    """`TextEncoder` on a pipeline's two encoders: one for the pooled vector, one for the tokens.

    Args:
        pooled: tokenizer and model (CLIP).
        words: tokenizer and model, whose tokens are the net's text.
        shortest: tokens that prompts are padded to at least; ComfyUI pads to as many.
        longest: tokens that the model reads, the end mark included.
    """

    def __init__(
        self,
        pooled: tuple[Any, Any],
        words: tuple[Any, Any],
        *,
        shortest: int = 256,
        longest: int = 512,
    ) -> None:
        self._pooled_tokenizer, self._pooled_encoder = pooled
        self._words_tokenizer, self._words_encoder = words
        self._shortest = shortest
        self.max_tokens = longest - 1

    def token_ids(self, text: str) -> list[int]:
        """Ids of the text's own tokens, in order: no padding, no end mark."""
        return self._words_tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    def parts(self, text: str, length: int) -> tuple[TextPart, ...]:
        """The one part of a text."""
        return (only_part(self.token_ids(text), length, self.max_tokens),)

    def positions(self, prompt: str, span: tuple[int, int] | None = None) -> tuple[int, ...]:
        """Positions of a span's tokens, or of all that the model reads."""
        return positions_in(self.token_ids, prompt, span, self.max_tokens)

    @torch.no_grad()
    def vectors(
        self, texts: Sequence[str], *, on_text: Callable[[], None] = lambda: None
    ) -> Tensor:
        """(N, P) float32 on the CPU: the pooled vectors that `encode` gives, and no more is run."""
        vectors = []
        for part in _parts(texts):
            vectors.append(self._pooled(part).float().cpu())
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
        """As the pipeline has them, padded to one length, in `dtype` on the CPU.

        Equal texts share one.
        """
        distinct = list(dict.fromkeys(prompts))
        longest = max(len(self.token_ids(prompt)) for prompt in distinct)
        length = max(self._shortest, min(longest, self.max_tokens) + 1)
        rows = torch.empty(
            len(distinct), length, self._words_encoder.config.d_model, dtype=dtype
        ).unbind()
        encoded: dict[str, Prompt] = {}
        for part in _parts(distinct):
            ids = _padded_ids(self._words_tokenizer, part, length).to(self._words_encoder.device)
            found = zip(
                part, self._words_encoder(ids).last_hidden_state, self._pooled(part), strict=True
            )
            for prompt, text, pooled in found:
                kept = rows[len(encoded)].copy_(text)
                encoded[prompt] = Prompt(kept, pooled.to("cpu", dtype))
                on_prompt()
        return Conditioning(tuple(encoded[prompt] for prompt in prompts))

    def _pooled(self, texts: Sequence[str]) -> Tensor:
        ids = _padded_ids(self._pooled_tokenizer, texts, CLIP_TOKENS).to(
            self._pooled_encoder.device
        )
        return self._pooled_encoder(ids).pooler_output


def _parts(texts: Sequence[str]) -> list[Sequence[str]]:
    return [texts[at : at + ENCODED_AT_ONCE] for at in range(0, len(texts), ENCODED_AT_ONCE)]


def _padded_ids(tokenizer: Any, prompts: Sequence[str], length: int) -> Tensor:
    """(B, length): longer prompts are cut off before the end mark."""
    return tokenizer(
        list(prompts),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
