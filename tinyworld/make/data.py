"""Pictures and captions in bulk, for training."""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from torch import Tensor

from ..pictures import Distance, render, signed_distance
from ..vocabulary import Scene, random_scene

CLIP_END = 49407


def random_scenes(count: int, seed: int) -> list[Scene]:
    """`count` scenes from a seed."""
    rng = Random(seed)
    return [random_scene(rng) for _ in range(count)]


def t5_tokenizer() -> Any:
    """The tokenizer of FLUX's T5, as ComfyUI carries it."""
    import comfy.text_encoders.flux

    return comfy.text_encoders.flux.FluxTokenizer().t5xxl.tokenizer


def render_all(
    scenes: list[Scene], seed: int, *, distance: Distance = signed_distance, batch: int = 250
) -> Tensor:
    """(N, 3, 128, 128) uint8, drawn in batches."""
    generator = torch.Generator().manual_seed(seed)
    parts = []
    for start in range(0, len(scenes), batch):
        pictures = render(scenes[start : start + batch], generator, distance=distance)
        parts.append((pictures * 255).round().to(torch.uint8))
    return torch.cat(parts)


def tokenize(texts: list[str], length: int) -> tuple[Tensor, Tensor]:
    """T5 ids (N, length), padded with 0, and CLIP ids (N, 77), by ComfyUI's own tokenizers."""
    import comfy.text_encoders.flux

    tokenizer = comfy.text_encoders.flux.FluxTokenizer(tokenizer_data={"t5xxl_min_length": length})
    t5 = [tokenizer.t5xxl.tokenizer(text)["input_ids"] for text in texts]
    clip = [tokenizer.clip_l.tokenizer(text)["input_ids"] for text in texts]
    longest = max(map(len, t5))
    if longest > length:
        raise ValueError(f"A caption has {longest} T5 tokens, expected at most {length}.")
    t5_ids = torch.tensor([ids + [0] * (length - len(ids)) for ids in t5])
    clip_ids = torch.tensor([ids + [CLIP_END] * (77 - len(ids)) for ids in clip])
    return t5_ids, clip_ids
