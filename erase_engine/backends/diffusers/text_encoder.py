"""A pipeline's text encoders, as the engine wants to see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...interfaces import Conditioning

CLIP_TOKENS = 77
ENCODED_AT_ONCE = 16  # prompts


class DiffusersTextEncoder:
    """`TextEncoder` on a FluxPipeline's CLIP-L, for the pooled vector, and its T5, for the tokens.

    Args:
        clip: tokenizer and model.
        t5: tokenizer and model.
        shortest: T5 tokens that prompts are padded to at least; ComfyUI pads to as many.
        longest: T5 tokens that the model reads, the end mark included.
    """

    def __init__(
        self,
        clip: tuple[Any, Any],
        t5: tuple[Any, Any],
        *,
        shortest: int = 256,
        longest: int = 512,
    ) -> None:
        self._clip_tokenizer, self._clip = clip
        self._t5_tokenizer, self._t5 = t5
        self._shortest = shortest
        self.max_tokens = longest - 1

    def token_ids(self, text: str) -> list[int]:
        """T5 ids of the text's own tokens, in order: no padding, no end mark."""
        return self._t5_tokenizer(text, add_special_tokens=False, verbose=False).input_ids

    @torch.no_grad()
    def encode(
        self, prompts: Sequence[str], *, on_prompt: Callable[[], None] = lambda: None
    ) -> Conditioning:
        """Text (B, T, D) and pooled (B, P) as FluxPipeline has them, padded to one T; CPU."""
        longest = max(len(self.token_ids(prompt)) for prompt in prompts)
        length = max(self._shortest, min(longest, self.max_tokens) + 1)
        parts = [
            prompts[at : at + ENCODED_AT_ONCE] for at in range(0, len(prompts), ENCODED_AT_ONCE)
        ]
        return Conditioning.cat([self._encode(part, length) for part in parts])

    def _encode(self, prompts: Sequence[str], length: int) -> Conditioning:
        ids = _padded_ids(self._t5_tokenizer, prompts, length).to(self._t5.device)
        text = self._t5(ids).last_hidden_state
        ids = _padded_ids(self._clip_tokenizer, prompts, CLIP_TOKENS).to(self._clip.device)
        return Conditioning.stacked(text.float().cpu(), self._clip(ids).pooler_output.float().cpu())


def _padded_ids(tokenizer: Any, prompts: Sequence[str], length: int) -> Tensor:
    """(B, length): longer prompts are cut off before the end mark."""
    return tokenizer(
        list(prompts),
        padding="max_length",
        max_length=length,
        truncation=True,
        return_tensors="pt",
    ).input_ids
