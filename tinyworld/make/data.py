"""Pictures and captions in bulk, for training."""

from __future__ import annotations

from random import Random
from typing import Any

import torch
from torch import Tensor

from ..pictures import Distance, render, signed_distance
from ..vocabulary import Scene, caption, random_scene

CLIP_END = 49407


def random_scenes(count: int, seed: int) -> list[Scene]:
    """`count` scenes from a seed."""
    rng = Random(seed)
    return [random_scene(rng) for _ in range(count)]


def captions(scenes: list[Scene], seed: int, tokens: int) -> list[str]:
    """One caption for each scene, worded anew until it has at most `tokens` T5 tokens."""
    rng = Random(seed)
    count = t5_tokenizer()
    out = []
    for scene in scenes:
        text = caption(scene, rng)
        while len(count(text)["input_ids"]) > tokens:
            text = caption(scene, rng)
        out.append(text)
    return out


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


def labels(scenes: list[Scene], layouts: int) -> dict[str, Tensor]:
    """What each scene holds, thing by thing as named: -1 where there is no second thing.

    "relation" is `layouts` for one thing (a class of its own), else the relation's index.
    """
    out: dict[str, list[int]] = {"relation": [], "background": []}
    for scene in scenes:
        out["relation"].append(layouts if scene.relation is None else scene.relation)
        out["background"].append(scene.background)
        for place in (0, 1):
            thing = scene.things[place] if place < len(scene.things) else None
            for field in ("shape", "colour", "style"):
                value = -1 if thing is None else getattr(thing, field)
                out.setdefault(f"{field}{place}", []).append(value)
    return {key: torch.tensor(value) for key, value in out.items()}


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
