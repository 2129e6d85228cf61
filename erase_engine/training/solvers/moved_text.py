"""A prompt with some tokens changed, as an attack changes them."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ...interfaces import Prompt

SHARE = 0.5  # of the prompts in a step that are attacked; the others stay as people write them


def moved_text(prompt: Prompt, tokens: Tensor, change: Tensor) -> Prompt:
    """The prompt with `change` (J, n) added to its text at `tokens` (J,), in the text's dtype."""
    return replace(prompt, text=prompt.text.index_add(0, tokens, change.to(prompt.text)))
