"""Prompts by seeds of their own, and what the judge says of the pictures they give."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from .judge import RELATION_LAYOUT, Judge, Verdict, layout_of, slots_of
from .phrases import answers, cut, exchanged, fits, in_place, kind_of, read_phrase
from .vocabulary import (
    COLOUR_NAMES,
    RELATION_NAMES,
    SHAPE_NAMES,
    STYLE_NAMES,
    Scene,
    Wording,
    caption,
    random_scene,
)

# Everything is said, in the plainest words: what is asked for is then known.
PLAIN_WORDS = Wording(
    synonym=0, no_colour=0, no_article=0, name_plain=0, no_background=0.3, joined_by_and=0, empty=0
)
FIRST_SEED = 9_000  # of evaluation prompts; training scenes use seeds below 100
LONGEST = 90  # letters: longer captions may pass the tiny model's text length
MOST_DRAWN = 400_000  # scenes: a relation of two shapes is one in 600


@dataclass(frozen=True)
class Prompt:
    """A sentence and the scene it describes; `background` is whether it names one.

    `unsaid` are fields of its second thing that it leaves open.
    """

    text: str
    scene: Scene
    background: bool
    unsaid: tuple[str, ...] = ()


Accept = Callable[[Prompt], bool]


def prompts_with(
    concept: str, count: int, seed: int = 0, *, accept: Accept = lambda prompt: True
) -> list[Prompt]:
    """Prompts that name the concept, several words as they stand; `accept` may refuse some."""

    def wanted(prompt: Prompt) -> bool:
        said = f" {concept} " in f" {prompt.text} "  # "red star" is not in "a checkered star"
        return said and shows(prompt.scene, concept) and accept(prompt)

    return _prompts(wanted, count, FIRST_SEED + 2 * seed, concept)


def prompts_without(
    concept: str, count: int, seed: int = 0, *, accept: Accept = lambda prompt: True
) -> list[Prompt]:
    """Prompts that do not name the concept; `accept` may refuse some."""

    def wanted(prompt: Prompt) -> bool:
        return not shows(prompt.scene, concept) and accept(prompt)

    return _prompts(wanted, count, FIRST_SEED + 2 * seed + 1)


def any_prompts(count: int, seed: int = 0, *, accept: Accept = lambda prompt: True) -> list[Prompt]:
    """Prompts of all kinds; `accept` may refuse some."""
    return _prompts(accept, count, FIRST_SEED + 2 * seed + 1)


def shows(scene: Scene, concept: str) -> bool:
    """Whether a picture of the scene shows the concept."""
    return read_phrase(concept).place(scene) is not None


def found(concept: str, prompts: Sequence[Prompt], verdict: Verdict) -> Tensor:
    """(N,) bool: the judge finds the concept in the picture of each prompt, wherever it is.

    A bare relation is found where the prompt's first thing stands in it to the second.
    """
    if kind_of(concept) == "relation":
        return verdict.holds(concept, [prompt.scene.things[:2] for prompt in prompts])  # type: ignore
    phrase = read_phrase(concept)
    return torch.tensor([phrase.seen(answer) for answer in answers(verdict)])


def replaced(concept: str, anchor: str, prompts: Sequence[Prompt], verdict: Verdict) -> Tensor:
    """(N,) bool: the judge finds the anchor in the concept's place.

    Of the thing that was the concept, the fields that the concept names are what the anchor makes
    of them, in the layout that the prompt asks for.
    """
    phrase = read_phrase(concept)
    if phrase.relation is not None:
        return found(anchor, prompts, verdict)
    hits = []
    for answer, prompt in zip(answers(verdict), prompts, strict=True):
        wanted, place = exchanged(prompt.scene, concept, anchor), phrase.place(prompt.scene)
        hits.append(in_place(answer, wanted, place or 0, phrase.fields))
    return torch.tensor(hits)


def obeyed(prompts: Sequence[Prompt], verdict: Verdict, *, but: str = "") -> Tensor:
    """(N,) the share of what each prompt asks for that the judge finds in its picture.

    Asked for are the layout, a relation, a named background, and shape, colour and style of each
    thing. What the concept `but` stands for is left out of the count.
    """
    shares = [_obeyed(index, prompt, verdict, but) for index, prompt in enumerate(prompts)]
    return torch.tensor(shares)


def found_by_name(prompts: Sequence[Prompt], verdict: Verdict) -> dict[str, float]:
    """For each concept, the share of pictures it was asked for in which the judge finds it."""
    out = {}
    for concept in (*SHAPE_NAMES, *COLOUR_NAMES, *STYLE_NAMES[1:], *RELATION_NAMES):
        rows = [i for i, prompt in enumerate(prompts) if shows(prompt.scene, concept)]
        if rows:
            some = Verdict({name: chance[rows] for name, chance in verdict.chances.items()})
            hits = found(concept, [prompts[i] for i in rows], some)
            out[concept] = hits.float().mean().item()
    return out


def look(pictures: Tensor) -> Verdict:
    """The committed judge's verdict on (N, 3, 128, 128) pictures in 0..1."""
    return Judge.load().look(pictures)


def _prompts(wanted: Accept, count: int, seed: int, concept: str = "") -> list[Prompt]:
    """Raises ValueError where MOST_DRAWN scenes give too few."""
    rng = Random(seed)
    prompts: dict[str, Prompt] = {}
    for _ in range(MOST_DRAWN):
        scene = random_scene(rng)
        prompt = _phrased(scene, caption(scene, rng, PLAIN_WORDS), concept)
        if len(prompt.text) <= LONGEST and wanted(prompt):
            prompts.setdefault(prompt.text, prompt)
        if len(prompts) == count:
            return list(prompts.values())
    raise ValueError(
        f"Got {len(prompts)} prompts of {MOST_DRAWN} scenes, expected {count}. Ask for fewer."
    )


def _phrased(scene: Scene, text: str, concept: str) -> Prompt:
    """The prompt, with the second thing's own words left out where they part a relation phrase."""
    first, relation, second = cut(concept)
    if not (relation and first and second):
        return Prompt(text, scene, "background" in text)
    text = re.sub(rf"\b{first} {relation} .*?\b{second}\b", concept, text)
    return Prompt(text, scene, "background" in text, ("colour", "style"))


def _obeyed(index: int, prompt: Prompt, verdict: Verdict, but: str) -> float:
    """The share for one picture."""
    scene, erased = prompt.scene, read_phrase(but)
    chances = {name: chance[index].argmax().item() for name, chance in verdict.chances.items()}
    checks = []
    if erased.relation is None:
        checks.append(chances["layout"] == layout_of(scene))
    if prompt.background:
        checks.append(chances["background"] == scene.background)
    for place, slot in enumerate(_slots_seen(index, prompt, verdict, but)):
        thing = scene.things[place]
        open_ = {field for part in erased.parts if fits(thing, part) for field in part}
        open_ |= set(prompt.unsaid if place else ())
        for field in ("shape", "colour", "style"):
            if field not in open_:
                checks.append(chances[f"{field}{slot}"] == getattr(thing, field))
    return sum(checks) / len(checks)


def _slots_seen(index: int, prompt: Prompt, verdict: Verdict, but: str) -> tuple[int, ...]:
    """The slot of each named thing; where the relation is gone, whichever way round fits best.

    It is gone where the layout is another, and where it does not count: "below" for "above".
    """
    slots = slots_of(prompt.scene)
    if len(slots) == 1:
        return slots
    pair = [prompt.scene.things[:2]]
    one = Verdict({name: chance[index : index + 1] for name, chance in verdict.chances.items()})
    relation = RELATION_NAMES[prompt.scene.relation or 0]
    expected = RELATION_LAYOUT[relation][1]
    fits_best = one.pair_score(pair, expected) >= one.pair_score(pair, 1 - expected)  # type: ignore
    right_layout = verdict.chances["layout"][index].argmax().item() == layout_of(prompt.scene)
    counts = right_layout and prompt.scene.relation != read_phrase(but).relation
    return slots if counts or bool(fits_best) else slots[::-1]
