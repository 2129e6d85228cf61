"""What the measures ask of the gallery's pictures."""

from __future__ import annotations

from typing import Any

import torch
from eraseanything_pack.gallery import evaluate
from eraseanything_pack.gallery.evaluate import WORDS, Accept, Prompt, field_of
from eraseanything_pack.gallery.planning import GALLERY
from eraseanything_pack.gallery.vocabulary import PEOPLE, STILL_LIFE, SUBJECTS, Scene
from torch import Tensor

from .scenery import Prompts, Scenery

OBJECTS = ("cat", "rose", "banana", "bicycle", "guitar", "skull")
PERSONS = ("Mira", "Omar", "Theo", "Ivan")
MARKS = ("python", "mozilla", "tux", "docker")
RELATIONS = ("above", "left of")
# A word of another field that is asked for besides all of the concept's own.
FROM_OTHERS = ("cat", "tiger", "bicycle", "cookie", "lemon", "Mira", "Omar", "python", "tux")
FROM_OTHERS += ("openmoji", "ink", "noto", "above", "left of")
NODE_KINDS = {"artist": "style", "person": "person", "relation": "relation"}


def synonyms(concept: str) -> tuple[str, ...]:
    """Other words that captions use; none but subjects have any."""
    return SUBJECTS.get(concept, ())


def other_words(concept: str) -> tuple[str, ...]:
    """All words of the concept's field, and FROM_OTHERS; no opposite, whose pictures are the same.

    A cat above a lemon is a lemon below a cat.
    """
    words = (*WORDS[field_of(concept)], *FROM_OTHERS)
    same = concept, GALLERY.opposites.get(concept)
    return tuple(word for word in dict.fromkeys(words) if word not in same)


def word_prompts(word: str, count: int, seed: int, accept: Accept) -> list[Prompt]:
    """Prompts that name a word."""
    return evaluate.prompts_with(word, count, seed, accept=accept)


def is_possible(scene: Scene) -> bool:
    """A pair differs, and is of what stands in pairs; no held-out pair of subject and artist."""
    if not scene.second:
        return not scene.held_out
    return scene.subject != scene.second and {scene.subject, scene.second} <= set(STILL_LIFE)


def alone(concept: str, count: int) -> int:
    """A third of what stands in pairs, all of what never does, nothing of a relation."""
    if field_of(concept) == "relation":
        return 0
    return count // 3 if concept in STILL_LIFE else count


def examples(world: Any, prompts: Prompts, seed: int) -> Tensor:
    """(N, 3, 128, 128) in 0..1 by the base model: drawings are not kept."""
    return world.draw([prompt.text for prompt in prompts], 7_000 + seed)


GALLERY_SCENERY = Scenery(
    concepts=(*OBJECTS, *WORDS["artist"], *PERSONS, *MARKS, *RELATIONS),
    quick=("cat", "ink", "Mira", "python", "left of"),
    any_prompts=evaluate.any_prompts,
    held_out_prompts=evaluate.held_out_prompts,
    prompts_with=evaluate.prompts_with,
    prompts_without=evaluate.prompts_without,
    word_prompts=word_prompts,
    part_prompts=lambda *_: [],
    found=evaluate.found,
    found_by_name=evaluate.found_by_name,
    replaced=evaluate.replaced,
    obeyed=evaluate.obeyed,
    parts=lambda _, prompts, __: torch.zeros(len(prompts), dtype=torch.bool),
    kind_of=field_of,
    node_kind=lambda concept: NODE_KINDS.get(field_of(concept), "object"),
    takes_article=lambda concept: concept in SUBJECTS and concept not in PEOPLE,
    synonyms=synonyms,
    other_words=other_words,
    things=lambda scene: 2 if scene.second else 1,
    shows=evaluate.shows,
    exchanged=evaluate.exchanged,
    possible=is_possible,
    near=lambda concept, word: field_of(concept) == field_of(word),
    alone=alone,
    examples=examples,
)
