"""Changes of text features, as an attack makes them: within a limit, on some tokens of a prompt."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from ...interfaces import Prompt

SHARE = 0.5  # of the prompts in a step that are attacked; the others stay as people write them
TINY = 1e-12


def length_of(x: Tensor) -> Tensor:
    """(..., 1) the norm of each vector (..., n), never 0."""
    return x.norm(dim=-1, keepdim=True).clamp_min(TINY)


def within(change: Tensor, limit: Tensor | float) -> Tensor:
    """The change (..., n), shortened where it is longer than `limit`."""
    return change * (limit / length_of(change)).clamp_max(1)


def moved_text(prompt: Prompt, tokens: Tensor, change: Tensor) -> Prompt:
    """The prompt with `change` (J, n) added to its text at `tokens` (J,), in the text's dtype."""
    return replace(prompt, text=prompt.text.index_add(0, tokens, change.to(prompt.text)))
