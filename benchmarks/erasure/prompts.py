"""Prompts about what has to stay: every other word of the world, and the parts of a phrase."""

from __future__ import annotations

from itertools import cycle, islice

from eraseanything_pack.tinyworld.evaluate import Accept, Prompt, any_prompts, prompts_with
from eraseanything_pack.tinyworld.phrases import Phrase, fits, read_phrase, truth
from eraseanything_pack.tinyworld.vocabulary import KINDS, Scene, family

# How a word stands in its prompts, by turns.
TURNS = {
    "shape": ("alone", "styled", "beside", "beside"),
    "colour": ("alone", "styled", "beside", "beside"),
    "style": ("styled", "beside"),
    "relation": ("beside",),
}


def other_words(concept: str) -> tuple[str, ...]:
    """Every word of the world that is none of the concept's."""
    words = (word for table in KINDS.values() for word in table)
    return tuple(word for word in words if f" {word} " not in f" {concept} ")


def word_prompts(word: str, count: int, seed: int, accept: Accept) -> list[Prompt]:
    """Prompts that name a word: alone, styled, beside another thing, by turns."""
    turns = TURNS[family(word)]
    drawn = {
        way: iter(
            prompts_with(
                word,
                -(-count * turns.count(way) // len(turns)),
                seed,
                accept=lambda prompt, way=way: arrangement(prompt.scene) == way and accept(prompt),
            )
        )
        for way in set(turns)
    }
    return [next(drawn[way]) for way in islice(cycle(turns), count)]


def part_prompts(concept: str, count: int, seed: int, accept: Accept) -> list[Prompt]:
    """Prompts with the parts of a phrase in other company, `count` of each group."""
    phrase = read_phrase(concept)
    return [
        prompt
        for group in range(3)
        for prompt in any_prompts(
            count,
            seed,
            accept=lambda prompt, group=group: (
                group_of(prompt.scene, phrase) == group and accept(prompt)
            ),
        )
    ]


def group_of(scene: Scene, phrase: Phrase) -> int | None:
    """0 and 1: one part without the other; 2: both, in other company; None: anything else.

    Of "red star": a star of another colour; another red thing; one of each in one picture. Of
    "cross above ring": a cross above another thing; another thing above a ring; both otherwise.
    """
    if phrase.seen(truth(scene)):
        return None
    if phrase.relation is None:
        halves = [{field: index} for field, index in phrase.parts[0].items()]
        held = [{i for i in (0, 1) if fits(thing, halves[i])} for thing in scene.things]
        if len(held) == 1:
            return next(iter(held[0]), None)
        return 2 if held[0] | held[1] == {0, 1} else None
    if scene.relation is None:
        return None
    held = {i for i in (0, 1) if fits(scene.things[i], phrase.parts[i])}
    if len(held) == 1 and scene.relation == phrase.relation:
        return held.pop()
    swapped = all(fits(scene.things[1 - i], phrase.parts[i]) for i in (0, 1))
    return 2 if len(held) == 2 or swapped else None


def arrangement(scene: Scene) -> str:
    """ "beside" another thing, "styled", or "alone" and plain."""
    if scene.relation is not None:
        return "beside"
    return "styled" if scene.things[0].style else "alone"
