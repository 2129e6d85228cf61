"""What a concept plan may say about the gallery: its sentences, its words, its opposites.

Synonyms are left out everywhere, so that they can test what training never saw.
"""

from __future__ import annotations

from random import Random

from ..erase_engine.concepts.vocabulary import Category, Vocabulary
from .vocabulary import (
    ARTISTS,
    BACKGROUNDS,
    CARRIERS,
    COLOURS,
    MARKS,
    MOUTHS,
    PEOPLE,
    SHIRTS,
    STILL_LIFE,
    SUBJECTS,
    Wording,
    caption,
    random_scene,
)

RELATIONS = ("above", "below", "left of", "right of")


def _captions(count: int, seed: int) -> tuple[str, ...]:
    """Sentences about all kinds of scenes, in plain words; evaluation's come from other seeds."""
    rng = Random(seed)
    wording = Wording(synonym=0, empty=0)
    return tuple(caption(random_scene(rng), rng, wording) for _ in range(count))


SUBJECT_TEMPLATES = (
    "{a_c}",
    "a drawing of {a_c}",
    "{a_c} in the style of {artist}",
    "{a_c} by {artist}",
    "{artist} {c}",
    "{a_c} drawn by {artist}",
    "{a_c} in the style of {artist} on a {background} background",
    "{a_c}, {artist} style, {background} background",
    "{background} background, {a_c} by {artist}",
    "a picture of {a_c} on a {background} background",
)
GALLERY = Vocabulary(
    templates={
        "object": SUBJECT_TEMPLATES,
        "fruit": (
            *SUBJECT_TEMPLATES,
            "{a_c} and {a_fruit}",
            "{a_fruit} above {a_c}",
            "{a_c} left of {a_fruit} on a {background} background",
            "{a_fruit} right of {a_c}, {background} background",
        ),
        "artist": (
            "{a_subject} in the style of {c}",
            "{a_subject} by {c}",
            "{c} {subject}",
            "{a_subject} drawn by {c}",
            "{a_subject}, {c} style",
            "{a_subject} in the style of {c} on a {background} background",
            "{background} background, {a_subject} by {c}",
            "{c} {subject} on a {background} background",
        ),
        "person": (
            "{c}",
            "a portrait of {c}",
            "{mouth} {c}",
            "a picture of {c} {mouth} in a {shirt} shirt",
            "{c}, {mouth} wearing a {shirt} top",
            "a portrait of {c} on a {background} background",
            "{mouth} {c} in a {shirt} top on a {background} background",
            "{background} background, {c} {mouth} wearing a {shirt} shirt",
        ),
        "mark": (
            "{a_c} {carrier}",
            "{a_colour} {carrier} with the {c} logo",
            "the {c} logo on {a_colour} {carrier}",
            "{a_colour} {carrier} with {a_c} logo",
            "{a_colour} {carrier} with the {c} mark",
            "{a_colour} {carrier} with the {c} logo on a {background} background",
            "{background} background, {a_colour} {carrier} with {a_c} logo",
        ),
        "relation": (
            "{a_fruit} {c} {a_fruit}",
            "{a_fruit} {c} {a_fruit} on a {background} background",
            "{a_fruit} {c} {a_fruit}, {background} background",
            "{background} background, {a_fruit} {c} {a_fruit}",
        ),
    },
    categories={
        "subject": Category("object", tuple(word for word in SUBJECTS if word not in STILL_LIFE)),
        "fruit": Category("object", STILL_LIFE),
        "mark": Category("object", MARKS),
        "artist": Category("style", ARTISTS),
        "person": Category("person", PEOPLE),
        "relation": Category("relation", RELATIONS),
    },
    fillers={
        "subject": tuple(SUBJECTS),
        "fruit": STILL_LIFE,
        "artist": ARTISTS,
        "mouth": tuple(MOUTHS),
        "shirt": SHIRTS,
        "carrier": tuple(CARRIERS),
        "colour": COLOURS,
        "background": BACKGROUNDS,
    },
    keep=_captions(96, seed=500),
    opposites={"above": "below", "below": "above", "left of": "right of", "right of": "left of"},
)
