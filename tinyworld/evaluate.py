"""Prompts that training never sees, and what the judge says of the pictures they give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor

from .judge import RELATION_LAYOUT, Judge, Verdict, layout_of, slots_of
from .vocabulary import (
    COLOUR_NAMES,
    RELATION_NAMES,
    SHAPE_NAMES,
    STYLE_NAMES,
    Scene,
    Wording,
    caption,
    family,
    random_scene,
)

# Everything is said, in the plainest words: what is asked for is then known.
PLAIN_WORDS = Wording(
    synonym=0, no_colour=0, no_article=0, name_plain=0, no_background=0.3, joined_by_and=0, empty=0
)
FIRST_SEED = 9_000  # of evaluation prompts; training scenes use seeds below 100
LONGEST = 90  # letters: longer captions may pass the tiny model's text length


@dataclass(frozen=True)
class Prompt:
    """A sentence and the scene it describes; `background` is whether it names one."""

    text: str
    scene: Scene
    background: bool


def prompts_with(concept: str, count: int, seed: int = 0) -> list[Prompt]:
    """Prompts that name the concept."""
    return _prompts(lambda scene: shows(scene, concept), count, FIRST_SEED + 2 * seed)


def prompts_without(concept: str, count: int, seed: int = 0) -> list[Prompt]:
    """Prompts that do not name the concept."""
    return _prompts(lambda scene: not shows(scene, concept), count, FIRST_SEED + 2 * seed + 1)


def any_prompts(count: int, seed: int = 0) -> list[Prompt]:
    """Prompts of all kinds."""
    return _prompts(lambda scene: True, count, FIRST_SEED + 2 * seed + 1)


def shows(scene: Scene, concept: str) -> bool:
    """Whether a picture of the scene shows the concept."""
    kind = family(concept)
    if kind == "relation":
        return scene.relation is not None and RELATION_NAMES[scene.relation] == concept
    names = {"shape": SHAPE_NAMES, "colour": COLOUR_NAMES, "style": STYLE_NAMES}[kind]
    return any(names[getattr(thing, kind)] == concept for thing in scene.things)


def found(concept: str, prompts: Sequence[Prompt], verdict: Verdict) -> Tensor:
    """(N,) bool: the judge finds the concept in the picture of each prompt.

    A relation is found where the prompt's first thing stands in it to the second.
    """
    if family(concept) != "relation":
        return verdict.finds(concept)
    return verdict.holds(concept, [prompt.scene.things[:2] for prompt in prompts])  # type: ignore


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


def _prompts(wanted: Callable[[Scene], bool], count: int, seed: int) -> list[Prompt]:
    rng = Random(seed)
    prompts: dict[str, Prompt] = {}
    while len(prompts) < count:
        scene = random_scene(rng)
        text = caption(scene, rng, PLAIN_WORDS)
        if wanted(scene) and len(text) <= LONGEST:
            prompts.setdefault(text, Prompt(text, scene, "background" in text))
    return list(prompts.values())


def _obeyed(index: int, prompt: Prompt, verdict: Verdict, but: str) -> float:
    """The share for one picture."""
    scene = prompt.scene
    chances = {name: chance[index].argmax().item() for name, chance in verdict.chances.items()}
    checks = []
    if not but or family(but) != "relation":
        checks.append(chances["layout"] == layout_of(scene))
    if prompt.background:
        checks.append(chances["background"] == scene.background)
    for thing, slot in zip(scene.things, _slots_seen(index, prompt, verdict, but), strict=True):
        for field, names in (
            ("shape", SHAPE_NAMES),
            ("colour", COLOUR_NAMES),
            ("style", STYLE_NAMES),
        ):
            if names[getattr(thing, field)] != but:
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
    fits = one.pair_score(pair, expected) >= one.pair_score(pair, 1 - expected)  # type: ignore
    right_layout = verdict.chances["layout"][index].argmax().item() == layout_of(prompt.scene)
    counts = right_layout and relation != but
    return slots if counts or bool(fits) else slots[::-1]
