"""What the making of weights asks of a world: its scenes, how they are told, and how drawn."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from torch import Tensor

from ..models import FLUX_CONFIG, T5_CONFIG, TEXT_TOKENS, WEIGHTS
from ..vocabulary import BACKGROUNDS, COLOURS, RELATIONS, SHAPES, STYLES, Scene, caption
from .data import random_scenes, render_all, t5_tokenizer

LAYOUTS = (0, 0, 1, 1, 2, 3)  # of each relation of the tiny world, and of one thing


@dataclass(frozen=True)
class World:
    """One world. A question that a caption leaves open has no answer."""

    folder: Path  # of its weights
    scenes: Callable[[int, int], list[Any]]  # of a count and a seed
    told: Callable[[int, int], list[Any]]  # those that the text encoders learn from
    caption: Callable[[Any, Random], str]
    render: Callable[[list[Any], int], Tensor]  # of scenes and a seed: (N, 3, 128, 128) uint8
    questions: Mapping[str, int]  # about a caption, with the number of answers
    answers: Callable[[Any, str], Mapping[str, int]]  # of a scene and its caption
    pooled: Mapping[str, int]  # questions that the pooled vector answers as well
    flux: Mapping[str, Any] = field(default_factory=lambda: FLUX_CONFIG)
    t5: Mapping[str, Any] = field(default_factory=lambda: T5_CONFIG)
    decoder: tuple[int, int] = (128, 3)  # width, blocks


def _answers(scene: Scene, _: str) -> dict[str, int]:
    relation = len(RELATIONS) if scene.relation is None else scene.relation
    things = {
        f"{name}{place}": getattr(thing, name)
        for place, thing in enumerate(scene.things)
        for name in ("shape", "colour", "style")
    }
    whole = {"relation": relation, "layout": LAYOUTS[relation], "background": scene.background}
    return whole | things


THING = {"shape": len(SHAPES), "colour": len(COLOURS), "style": len(STYLES)}
TINY_WORLD = World(
    folder=WEIGHTS,
    scenes=random_scenes,
    told=random_scenes,
    caption=caption,
    render=render_all,
    questions={
        "relation": len(RELATIONS) + 1,
        "background": len(BACKGROUNDS),
        **{f"{name}{place}": count for place in (0, 1) for name, count in THING.items()},
    },
    answers=_answers,
    pooled={"layout": 4, "background": len(BACKGROUNDS)},
)


def captions(world: World, scenes: list[Any], seed: int) -> list[str]:
    """One caption for each scene, worded anew until it has at most TEXT_TOKENS T5 tokens."""
    rng, count = Random(seed), t5_tokenizer()

    def fitting(scene: Any) -> str:
        text = world.caption(scene, rng)
        return text if len(count(text)["input_ids"]) <= TEXT_TOKENS else fitting(scene)

    return [fitting(scene) for scene in scenes]


def world_of(name: str) -> World:
    """The world of this name."""
    if name == "gallery":
        from ...gallery.make.world import GALLERY_WORLD

        return GALLERY_WORLD
    return TINY_WORLD


def world_parser(description: str | None) -> argparse.ArgumentParser:
    """A command line's parser that asks for the world."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--world", choices=("tinyworld", "gallery"), default="tinyworld")
    return parser
