"""What a concept plan may say about the tiny world: its sentences, its words, its opposites.

Synonyms are left out everywhere, so that they can test what training never saw.
"""

from __future__ import annotations

from random import Random

from ..erase_engine.concepts.vocabulary import Category, Vocabulary
from .vocabulary import (
    BACKGROUNDS,
    COLOURS,
    RELATIONS,
    SHAPES,
    STYLES,
    Wording,
    caption,
    random_scene,
)

_STYLES = tuple(name for name in STYLES if name != "plain")


def _captions(count: int, seed: int) -> tuple[str, ...]:
    """Sentences about all kinds of scenes, in plain words; evaluation's come from other seeds."""
    rng = Random(seed)
    wording = Wording(synonym=0, empty=0)
    return tuple(caption(random_scene(rng), rng, wording) for _ in range(count))


TINY_WORLD = Vocabulary(
    templates={
        "shape": (
            "{a_colour} {c}",
            "a picture of {a_style} {colour} {c}",
            "an image of {a_colour} {c}",
            "{a_colour} {c} on a {background} background",
            "{background} background, {a_style} {colour} {c}",
            "{a_colour} {c} {relation} {a_colour} {shape}",
            "an image of {a_style} {colour} {c} {relation} {a_colour} {shape}",
            "{a_colour} {shape} {relation} {a_colour} {c} on a {background} background",
            "a drawing of {a_colour} {shape} {relation} {a_style} {colour} {c}",
            "{a_style} {colour} {shape} {relation} {a_colour} {c} on a {background} background",
            "{background} background, {a_colour} {c} {relation} {a_colour} {style} {shape}",
            "{a_colour} {style} {c} {relation} {a_style} {colour} {shape}",
        ),
        "object": ("a picture of {a_c}", "{a_colour} {c}", "{a_colour} {c} {relation} {a_shape}"),
        "colour": (
            "{a_c} {shape}",
            "a picture of {a_style} {c} {shape}",
            "an image of a {c} {style} {shape}",
            "a {c} {shape} on a {background} background",
            "{background} background, {a_style} {c} {shape}",
            "a {c} {shape} {relation} {a_colour} {shape}",
            "a drawing of {a_colour} {shape} {relation} {a_style} {c} {shape}",
            "{background} background, {a_c} {shape} {relation} {a_style} {colour} {shape}",
            "{a_colour} {style} {shape} {relation} {a_c} {shape} on a {background} background",
        ),
        "style": (
            "a {c} {colour} {shape}",
            "a picture of {a_colour} {c} {shape}",
            "an image of a {c} {colour} {shape}",
            "a {c} {colour} {shape} on a {background} background",
            "{background} background, {a_colour} {c} {shape}",
            "a {c} {colour} {shape} {relation} {a_colour} {shape}",
            "a drawing of {a_colour} {shape} {relation} {a_colour} {c} {shape}",
            "{background} background, a {c} {colour} {shape} {relation} {a_style} {colour} {shape}",
            "{a_colour} {style} {shape} {relation} a {c} {colour} {shape}",
        ),
        "relation": (
            "{a_colour} {shape} {c} {a_colour} {shape}",
            "a picture of {a_style} {colour} {shape} {c} {a_colour} {shape}",
            "an image of {a_colour} {shape} {c} {a_style} {colour} {shape}",
            "{a_colour} {shape} {c} {a_colour} {shape} on a {background} background",
            "{background} background, {a_colour} {shape} {c} {a_colour} {shape}",
            "{a_style} {colour} {shape} {c} {a_colour} {style} {shape}",
        ),
    },
    categories={
        "shape": Category("object", tuple(SHAPES)),
        "colour": Category("style", tuple(COLOURS)),
        "style": Category("style", _STYLES, plain=True),
        "relation": Category("relation", tuple(RELATIONS)),
    },
    fillers={
        "shape": tuple(SHAPES),
        "colour": tuple(COLOURS),
        "style": _STYLES,
        "background": BACKGROUNDS,
        "relation": tuple(RELATIONS),
    },
    keep=_captions(96, seed=500),
    opposites={
        "above": "below",
        "below": "above",
        "left of": "right of",
        "right of": "left of",
        "inside": "above",
    },
)
