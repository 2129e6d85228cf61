"""ComfyUI's loaded text encoders, as the engine wants to see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from ...concepts.request import LONGEST_SENTENCE
from ...interfaces import Conditioning, Prompt
from ...validation import shortened
from .guards import ordinary


class ComfyTextEncoder:
    """`TextEncoder` on a ComfyUI CLIP for Flux (CLIP-L and T5).

    Prompts are taken literally: parentheses and numbers are words, not weights.
    """

    def __init__(self, clip: Any, *, max_tokens: int = 512) -> None:
        found = sorted(clip.tokenize(""))
        if found != ["l", "t5xxl"]:
            raise ValueError(
                f"Got text encoders {found}, expected ['l', 't5xxl'] of Flux. "
                "Load them with DualCLIPLoader, type flux."
            )
        self._clip = clip
        self.max_tokens = max_tokens

    def token_ids(self, text: str) -> list[int]:
        """T5 ids of the text's own tokens, in order: no padding, no end mark."""
        ids = [int(token) for token, _ in self._tokens(text)["t5xxl"][0]]
        return ids[: ids.index(self._clip.tokenizer.t5xxl.end_token)]

    @torch.no_grad()
    def encode(
        self, prompts: Sequence[str], *, on_prompt: Callable[[], None] = lambda: None
    ) -> Conditioning:
        """As CLIP Text Encode gives them, padded to one length; equal texts share one."""
        tokens = {prompt: self._tokens(prompt) for prompt in prompts}
        length = max(len(each["t5xxl"][0]) for each in tokens.values())
        encoded = {}
        for prompt, each in tokens.items():
            encoded[prompt] = self._encode_one(each, length)
            on_prompt()
        return Conditioning(tuple(encoded[prompt] for prompt in prompts))

    def _tokens(self, text: str) -> dict[str, Any]:
        """ValueError for a text that is no prompt: the host reads any length, in any memory."""
        if len(text) > LONGEST_SENTENCE:
            raise ValueError(
                f"Got the prompt '{shortened(text)}' of {len(text)} letters, expected at most "
                f"{LONGEST_SENTENCE}. Shorten it."
            )
        return self._clip.tokenize(text, disable_weights=True)

    def _encode_one(self, tokens: dict[str, Any], length: int) -> Prompt:
        row = tokens["t5xxl"][0]
        row.extend([(self._clip.tokenizer.t5xxl.pad_token, 1.0)] * (length - len(row)))
        text, pooled = self._clip.encode_from_tokens(tokens, return_pooled=True)
        return Prompt(ordinary(text)[0], ordinary(pooled)[0])
