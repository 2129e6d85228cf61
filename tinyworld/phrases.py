"""Concepts of one or several words, read as what a scene must hold.

"star" is a thing of that shape, "red star" a thing of that shape and colour, "above" a relation,
"cross above ring" a relation of two things.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from itertools import product

from .judge import NAMES, RELATION_LAYOUT, Verdict, layout_of, slots_of
from .judge_networks import LAYOUTS
from .vocabulary import KINDS, RELATION_NAMES, Scene, Thing, family

Part = Mapping[str, int]  # of a thing: field ("shape", "colour", "style") -> place in its table


@dataclass(frozen=True)
class Phrase:
    """What a concept asks for: one part of a thing, or a relation and a part of each thing."""

    parts: tuple[Part, ...]
    relation: int | None = None

    def place(self, scene: Scene) -> int | None:
        """The first thing of a scene that is the concept; 0 for a relation; None where none is."""
        if self.relation is None:
            fitting = (i for i, thing in enumerate(scene.things) if fits(thing, self.parts[0]))
            return next(fitting, None)
        related = scene.relation == self.relation
        return 0 if related and all(map(fits, scene.things, self.parts)) else None

    @property
    def fields(self) -> tuple[str, ...]:
        """What its parts say of a thing."""
        return tuple(dict.fromkeys(field for part in self.parts for field in part))

    def seen(self, answer: Mapping[str, int]) -> bool:
        """Whether a judge's answer holds the concept; of a bare relation: its layout."""
        if self.relation is None:
            slots = (0,) if answer["layout"] == 0 else (0, 1)
            return any(matches(answer, slot, self.parts[0]) for slot in slots)
        layout, first = RELATION_LAYOUT[RELATION_NAMES[self.relation]]
        there = answer["layout"] == LAYOUTS.index(layout)
        return there and all(map(matches, (answer,) * 2, (first, 1 - first), self.parts))


@cache
def read_phrase(concept: str) -> Phrase:
    """The concept's words as a Phrase; raises ValueError for words the tiny world lacks."""
    first, relation, second = cut(concept)
    if not relation:
        return Phrase((_part(first),))
    return Phrase((_part(first), _part(second)), RELATION_NAMES.index(relation))


def kind_of(concept: str) -> str:
    """ "shape", "colour", "style" or "relation"; "phrase" for several words."""
    phrase = read_phrase(concept)
    words = sum(map(len, phrase.parts)) + (phrase.relation is not None)
    return "phrase" if words > 1 else family(concept)


def synonyms(concept: str) -> tuple[str, ...]:
    """Other wordings of the concept: one or more of its words exchanged for a synonym."""
    first, relation, second = cut(concept)
    words = [*first.split(), *filter(None, [relation]), *second.split()]
    choices = [(word, *KINDS[family(word)][word]) for word in words]
    return tuple(" ".join(chosen) for chosen in product(*choices) if list(chosen) != words)


def exchanged(scene: Scene, concept: str, anchor: str) -> Scene:
    """The scene with the anchor in the concept's place; a style that is left out is plain.

    Raises ValueError where the scene lacks the concept.
    """
    old, new = read_phrase(concept), read_phrase(anchor)
    place = old.place(scene)
    if place is None:
        raise ValueError(f"Got a scene without '{concept}', expected one that shows it: {scene}.")
    things = list(scene.things)
    for offset, (before, after) in enumerate(zip(old.parts, new.parts, strict=True)):
        left_out = {"style": 0} if "style" in before else {}
        changes = {**left_out, **after}
        things[place + offset] = replace(things[place + offset], **changes)
    relation = scene.relation if new.relation is None else new.relation
    return replace(scene, things=tuple(things), relation=relation)


def fits(thing: Thing, part: Part) -> bool:
    return all(getattr(thing, field) == index for field, index in part.items())


def matches(answer: Mapping[str, int], slot: int, part: Part) -> bool:
    """Whether a judge sees this part in a slot."""
    return all(answer[f"{field}{slot}"] == index for field, index in part.items())


def answers(verdict: Verdict) -> list[dict[str, int]]:
    """The class that each head says of each picture."""
    classes = {name: chance.argmax(-1).tolist() for name, chance in verdict.chances.items()}
    return [dict(zip(classes, row, strict=True)) for row in zip(*classes.values(), strict=True)]


def truth(scene: Scene) -> dict[str, int]:
    """What a judge should answer to a picture of the scene, of the slots that hold a thing."""
    things = zip(slots_of(scene), scene.things, strict=True)
    seen = {f"{name}{slot}": getattr(thing, name) for slot, thing in things for name in NAMES}
    return {"layout": layout_of(scene), "background": scene.background, **seen}


def in_place(answer: Mapping[str, int], scene: Scene, place: int, fields: tuple[str, ...]) -> bool:
    """Whether these fields of a scene's thing are seen where they belong, in the right layout."""
    part = {field: getattr(scene.things[place], field) for field in fields}
    return answer["layout"] == layout_of(scene) and matches(answer, slots_of(scene)[place], part)


def _part(words: str) -> Part:
    return {family(word): NAMES[family(word)].index(word) for word in words.split()}


def cut(concept: str) -> tuple[str, str, str]:
    """What stands before a relation's name, the name, and what follows; the last two may be ""."""
    names = (name for name in RELATION_NAMES if f" {name} " in f" {concept} ")
    first, relation, second = f" {concept} ".partition(f" {next(names, ' ')} ")
    return first.strip(), relation.strip(), second.strip()
