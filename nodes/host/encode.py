"""The CLIP input as the engine's text encoder."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ...erase_engine.backends.comfy.model import ComfyFlowModel, supported_family
from ...erase_engine.backends.comfy.text_encoder import ComfyTextEncoder
from ...erase_engine.concepts.everyday import PICTURES
from ...erase_engine.concepts.vocabulary import Vocabulary


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """For text encoding: nodes run in inference mode, whose tensors autograd may not save."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def encoder_for(clip: Any, model: Any = None) -> ComfyTextEncoder:
    """The CLIP input as the engine's text encoder.

    Raises ValueError where no family has it, or where the MODEL is of another one; and as soon as
    it encodes, where the MODEL takes text of another width.
    """
    if model is None:
        return ComfyTextEncoder(clip)
    width = ComfyFlowModel(model).text_width
    return ComfyTextEncoder(clip, family=supported_family(model), width=width)


def vocabulary_of(clip: Any) -> Vocabulary:
    """The words that prompts are planned with: a text encoder may bring its own."""
    return getattr(clip.tokenizer, "eraseanything_vocabulary", PICTURES)
