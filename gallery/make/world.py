"""The gallery, as the making of weights sees it."""

from __future__ import annotations

from random import Random

from ...tinyworld.make.worlds import World
from ...tinyworld.models import FLUX_CONFIG, T5_CONFIG
from ..vocabulary import (
    ARTISTS,
    FIELDS,
    SUBJECTS,
    WEIGHTS,
    Scene,
    caption,
    random_scene,
)
from .pictures import render_all

RELATIONS = (" above ", " below ", " left of ", " right of ", " and ")
TURNED = (1, 3)  # of these: what is named first is the scene's second thing
PAIRS = 0.35  # of the scenes that text is learned from: who stands where is the hardest to read
T5_WIDTH = 96


def random_scenes(count: int, seed: int) -> list[Scene]:
    """`count` scenes from a seed."""
    rng = Random(seed)
    return [random_scene(rng) for _ in range(count)]


def told_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes with more pairs among them."""
    rng, scenes = Random(seed), []
    while len(scenes) < count:
        scene = random_scene(rng)
        pair = bool(scene.second)
        if pair == (len(scenes) < PAIRS * count):
            scenes.append(scene)
    return scenes


def answers(scene: Scene, text: str) -> dict[str, int]:
    """What a caption says: fields by their place in FIELDS, two things in the order of naming."""
    if not text:
        return {}
    said = {name: getattr(scene, name) for name in FIELDS if getattr(scene, name)}
    relation = next((i for i, word in enumerate(RELATIONS) if scene.second and word in text), None)
    if relation in TURNED:
        said |= {"subject": scene.second, "second": scene.subject}
    unsaid = {
        "background": "background" not in text,
        "artist": scene.kind == "object" and not any(artist in text for artist in ARTISTS),
        "shirt": not any(word in text for word in (" shirt", " top")),
        "colour": scene.colour not in text,
    }
    found = {
        name: (tuple(SUBJECTS) if name == "second" else FIELDS[name]).index(word)
        for name, word in said.items()
        if not unsaid.get(name)
    }
    return found if relation is None else found | {"relation": relation}


GALLERY_WORLD = World(
    folder=WEIGHTS,
    scenes=random_scenes,
    told=told_scenes,
    caption=caption,
    render=render_all,
    questions={
        **{name: len(words) for name, words in FIELDS.items()},
        "second": len(SUBJECTS),
        "relation": len(RELATIONS),
    },
    answers=answers,
    pooled={name: len(FIELDS[name]) for name in ("kind", "background")},
    flux=FLUX_CONFIG | {"hidden_size": 192, "num_heads": 6, "context_in_dim": T5_WIDTH},
    t5=T5_CONFIG | {"d_model": T5_WIDTH, "d_ff": 4 * T5_WIDTH},
    decoder=(192, 4),
)
