"""A language model as a pipeline's text encoder, as the engine wants to see it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from ...concepts.token_positions import positions_in
from ...families.family import Chat
from ...interfaces import Conditioning, Prompt, TextPart
from ..mean_vectors import mean_vectors

LONGEST = 512  # tokens that the model reads, the chat's own among them


class ChatTextEncoder:
    """`TextEncoder` on a tokenizer and its language model.

    Args:
        chat: what the model is told, and which of its features are taken.
    """

    def __init__(self, tokenizer: Any, model: Any, chat: Chat) -> None:
        self._tokenizer, self._model, self._chat = tokenizer, model, chat
        self._head, self._tail = map(self._ids, chat.template.split("{}"))
        self.max_tokens = (chat.length or LONGEST) - len(self._head) - len(self._tail)

    def token_ids(self, text: str) -> list[int]:
        """Ids of the text's own tokens, in order."""
        return self._ids(text.lstrip())  # else the template's last line would run into its first

    def parts(self, text: str, length: int) -> tuple[TextPart, ...]:
        """The one part of a text that is `length` tokens long."""
        ids = self.token_ids(text)[: self.max_tokens]
        head = range(0 if self._chat.headless else len(self._head))
        places = range(len(head), len(head) + len(ids))
        tail = range(places.stop, places.stop + len(self._tail))
        padding = range(tail.stop, length)
        return (TextPart(tuple(ids), *map(tuple, (places, tail, padding, head))),)

    def positions(self, prompt: str, span: tuple[int, int] | None = None) -> tuple[int, ...]:
        """Positions of a span's tokens, or of all that the model reads."""
        (part,) = self.parts(prompt, 0)
        found = positions_in(self.token_ids, prompt, span, len(part.places))
        return tuple(part.places[at] for at in found)

    def vectors(
        self, texts: Sequence[str], *, on_text: Callable[[], None] = lambda: None
    ) -> Tensor:
        """(N, D) float32 on the CPU: the mean of each text's own tokens."""
        return mean_vectors(self, texts, on_text)

    @torch.no_grad()
    def encode(
        self,
        prompts: Sequence[str],
        *,
        dtype: torch.dtype = torch.float32,
        on_prompt: Callable[[], None] = lambda: None,
    ) -> Conditioning:
        """As the pipeline has them, in `dtype` on the CPU; equal texts share one."""
        encoded: dict[str, Prompt] = {}
        for prompt in dict.fromkeys(prompts):
            encoded[prompt] = Prompt(self._features(prompt).to("cpu", dtype))
            on_prompt()
        return Conditioning(tuple(encoded[prompt] for prompt in prompts))

    def _features(self, prompt: str) -> Tensor:
        """(T, D): the chosen layers side by side."""
        ids = [*self._head, *self.token_ids(prompt)[: self.max_tokens], *self._tail]
        padding = max(0, self._chat.length - len(ids))
        mask = torch.tensor([[1] * len(ids) + [0] * padding])
        ids = torch.tensor([ids + [self._tokenizer.pad_token_id] * padding])
        hidden = self._model(
            input_ids=ids.to(self._model.device),
            attention_mask=mask.to(self._model.device),
            output_hidden_states=True,
            use_cache=False,
        ).hidden_states
        features = torch.cat([hidden[layer][0] for layer in self._chat.layers], dim=-1)
        return features[len(self._head) if self._chat.headless else 0 :]

    def _ids(self, text: str) -> list[int]:
        return self._tokenizer(text, add_special_tokens=False, verbose=False).input_ids
