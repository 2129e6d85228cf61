"""Vectors of texts where the text encoder has no pooled ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from ..interfaces import TextEncoder


def mean_vectors(encoder: TextEncoder, texts: Sequence[str], on_text: Callable[[], None]) -> Tensor:
    """(N, D) float32 on the CPU: the mean over each text's own tokens, over all where it has none.

    One after another: of each only a vector is kept.
    """
    means = []
    for text in texts:
        (prompt,) = encoder.encode([text], on_prompt=on_text).prompts
        places = list(encoder.positions(text)) or slice(None)
        means.append(prompt.text[places].float().mean(dim=0).cpu())
    return torch.stack(means)
