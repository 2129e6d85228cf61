"""ComfyUI's loaded text encoders, as the engine wants to see them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...concepts.request import LONGEST_SENTENCE
from ...concepts.token_positions import positions_in
from ...families.registry import family_of_tokenizers
from ...interfaces import Conditioning, Prompt
from ...validation import shortened
from .guards import ordinary


class ComfyTextEncoder:
    """`TextEncoder` on a ComfyUI CLIP, of the family whose tokenizers it has.

    Prompts are taken literally: parentheses and numbers are words, not weights.
    """

    def __init__(self, clip: Any, *, max_tokens: int = 512) -> None:
        self.family = family_of_tokenizers(clip.tokenize(""))
        self._clip = clip
        self._words = self.family.words
        self.max_tokens = max_tokens

    def token_ids(self, text: str) -> list[int]:
        """Ids of the text's own tokens, in order: no padding, no end mark."""
        ids = [int(token) for token, _ in self._tokens(text)[self._words][0]]
        return ids[: ids.index(self._tokenizer.end_token)]

    def positions(self, prompt: str, span: tuple[int, int] | None = None) -> tuple[int, ...]:
        """Positions of a span's tokens, or of all that the model reads."""
        return positions_in(self.token_ids, prompt, span, self.max_tokens)

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
        tokenizer, encoder = self.family.pooled
        vectors = []
        for text in texts:
            tokens = self._tokens(text)[tokenizer]
            _, pooled = getattr(stage, encoder).encode_token_weights(tokens)
            vectors.append(ordinary(pooled)[0].float().cpu())
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
        length = max(len(each[self._words][0]) for each in tokens.values())
        buffers, encoded = [], {}
        for row, (prompt, each) in enumerate(tokens.items()):
            features = self._encode_one(each, length)
            buffers = buffers or [x.new_empty(len(tokens), *x.shape, dtype=dtype) for x in features]
            kept = [b[row].copy_(x) for b, x in zip(buffers, features, strict=True)]
            encoded[prompt] = Prompt(*kept)
            on_prompt()
        return Conditioning(tuple(encoded[prompt] for prompt in prompts))

    @property
    def _tokenizer(self) -> Any:
        """Of the tokens that are the model's text."""
        return getattr(self._clip.tokenizer, self._words)

    def _tokens(self, text: str) -> dict[str, Any]:
        """ValueError for a text that is no prompt: the host reads any length, in any memory."""
        if len(text) > LONGEST_SENTENCE:
            raise ValueError(
                f"Got the prompt '{shortened(text)}' of {len(text)} letters, expected at most "
                f"{LONGEST_SENTENCE}. Shorten it."
            )
        return self._clip.tokenize(text, disable_weights=True)

    def _encode_one(self, tokens: dict[str, Any], length: int) -> tuple[Tensor, Tensor]:
        row = tokens[self._words][0]
        row.extend([(self._tokenizer.pad_token, 1.0)] * (length - len(row)))
        text, pooled = self._clip.encode_from_tokens(tokens, return_pooled=True)
        return ordinary(text)[0], ordinary(pooled)[0]
