"""Prompts by seeds of their own, and what a judge says of the pictures they give.

A concept is one word of the gallery: a subject, an artist, a person, a mark, or a relation of two
things ("above", "left of").
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from random import Random

import torch
from torch import Tensor

from ..tinyworld.judge import Verdict
from .judge import HEADS, plain_judge
from .vocabulary import (
    ARTISTS,
    BACKGROUNDS,
    FIELDS,
    HELD_OUT,
    MARKS,
    PEOPLE,
    PLAIN,
    SUBJECTS,
    Scene,
    Wording,
    caption,
    random_scene,
)

# relation -> kind of picture, and whether what is named first is the scene's `subject`
RELATIONS: Mapping[str, tuple[str, bool]] = {
    "above": ("over", True),
    "below": ("over", False),
    "left of": ("beside", True),
    "right of": ("beside", False),
}
# The words of each field that a concept may be.
WORDS: Mapping[str, tuple[str, ...]] = {
    "subject": tuple(SUBJECTS),
    "artist": ARTISTS,
    "person": PEOPLE,
    "mark": (*MARKS, PLAIN),
    "relation": tuple(RELATIONS),
}
# What a picture of each kind is asked about, besides its background. Mouths are too small to be
# told for certain.
ASKED: Mapping[str, tuple[str, ...]] = {
    "object": ("subject", "artist"),
    "over": ("subject", "second"),
    "beside": ("subject", "second"),
    "portrait": ("person", "shirt"),
    "carrier": ("carrier", "mark", "colour"),
}
# Everything is said, in the plainest words: what is asked for is then known.
PLAIN_WORDS = Wording(
    synonym=0, no_artist=0, no_mouth=0, no_shirt=0, no_colour=0, no_background=0.3, empty=0
)
FIRST_SEED = 9_000  # of evaluation prompts; training scenes use seeds below 1,000
MOST_DRAWN = 400_000  # scenes


@dataclass(frozen=True)
class Prompt:
    """A sentence and the scene it describes; `background` is whether it names one."""

    text: str
    scene: Scene
    background: bool


Accept = Callable[[Prompt], bool]
Answer = Mapping[str, str]  # field -> the word that a judge says; "" for none


def field_of(concept: str) -> str:
    """ "subject", "artist", "person", "mark" or "relation". Raises ValueError for other words."""
    for name, words in WORDS.items():
        if concept in words:
            return name
    known = ", ".join(word for words in WORDS.values() for word in words)
    raise ValueError(f"Got concept '{concept}', expected one the gallery shows: {known}.")


def shows(scene: Scene, concept: str) -> bool:
    """Whether a picture of the scene shows the concept."""
    name = field_of(concept)
    if name == "relation":
        return scene.kind == RELATIONS[concept][0]
    if name == "subject":
        return concept in (scene.subject, scene.second)
    if name == "artist" and scene.kind != "object":  # pairs are one artist's, and don't say so
        return False
    return getattr(scene, name) == concept


def prompts_with(
    concept: str, count: int, seed: int = 0, *, accept: Accept = lambda prompt: True
) -> list[Prompt]:
    """Prompts that name the concept; `accept` may refuse some.

    Raises ValueError for words that the gallery does not show.
    """
    field_of(concept)

    def wanted(prompt: Prompt) -> bool:
        said = f" {concept} " in f" {prompt.text.replace(',', ' ')} "
        return said and shows(prompt.scene, concept) and accept(prompt)

    return _prompts(wanted, count, FIRST_SEED + 2 * seed)


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


def held_out_prompts(each: int, seed: int = 0) -> list[Prompt]:
    """`each` prompts of every subject and artist that were never drawn together for training."""
    rng, prompts = Random(FIRST_SEED + 2 * seed), []
    for subject, artist in sorted(HELD_OUT):
        for _ in range(each):
            scene = Scene("object", rng.choice(BACKGROUNDS), subject=subject, artist=artist)
            text = caption(scene, rng, PLAIN_WORDS)
            prompts.append(Prompt(text, scene, "background" in text))
    return prompts


def exchanged(scene: Scene, concept: str, anchor: str) -> Scene:
    """The scene with the anchor in the concept's place."""
    name = field_of(concept)
    if name == "relation":
        kind, first = RELATIONS[anchor]
        pair = (scene.subject, scene.second)
        one, two = pair if first == RELATIONS[concept][1] else pair[::-1]
        return replace(scene, kind=kind, subject=one, second=two)
    if name == "subject" and scene.second == concept:
        return replace(scene, second=anchor)
    return replace(scene, **{name: anchor})


def answers(verdict: Verdict) -> list[Answer]:
    """What a judge says of each picture, of what there is to see in a picture of its kind."""
    words = {
        name: [(*FIELDS[name], "")[place] for place in chance.argmax(-1).tolist()]
        for name, chance in verdict.chances.items()
        if name in HEADS
    }
    each = (dict(zip(words, row, strict=True)) for row in zip(*words.values(), strict=True))
    return [
        {name: said[name] for name in ("kind", "background", *ASKED[said["kind"]])} for said in each
    ]


def is_seen(concept: str, answer: Answer, scene: Scene) -> bool:
    """Whether the concept is in a picture; a relation, where the scene's two things stand in it."""
    name = field_of(concept)
    if name == "relation":
        asked = exchanged(scene, concept, concept)
        return all(answer.get(part) == getattr(asked, part) for part in ("kind", *ASKED["over"]))
    if name == "subject":
        return concept in (answer.get("subject"), answer.get("second"))
    return answer.get(name) == concept


def found(concept: str, prompts: Sequence[Prompt], verdict: Verdict) -> Tensor:
    """(N,) bool: the judge finds the concept in the picture of each prompt, wherever it is."""
    pairs = zip(answers(verdict), prompts, strict=True)
    return torch.tensor([is_seen(concept, answer, prompt.scene) for answer, prompt in pairs])


def replaced(concept: str, anchor: str, prompts: Sequence[Prompt], verdict: Verdict) -> Tensor:
    """(N,) bool: the judge finds the anchor in the concept's place, in a picture of its kind."""
    name, hits = field_of(concept), []
    for answer, prompt in zip(answers(verdict), prompts, strict=True):
        wanted = exchanged(prompt.scene, concept, anchor)
        parts = ASKED["over"] if name == "relation" else (name,)
        if name == "subject" and prompt.scene.second == concept:
            parts = ("second",)
        hits.append(all(answer.get(part) == getattr(wanted, part) for part in ("kind", *parts)))
    return torch.tensor(hits)


def obeyed(prompts: Sequence[Prompt], verdict: Verdict, *, but: str = "") -> Tensor:
    """(N,) the share of what each prompt asks for that the judge finds in its picture.

    What the concept `but` stands for is left out of the count.
    """
    pairs = zip(answers(verdict), prompts, strict=True)
    return torch.tensor([_obeyed(answer, prompt, but) for answer, prompt in pairs])


def found_by_name(prompts: Sequence[Prompt], verdict: Verdict) -> dict[str, float]:
    """For each word, the share of pictures it was asked for in which the judge finds it."""
    out, seen = {}, answers(verdict)
    for name, words in WORDS.items():
        for word in words:
            pairs = zip(seen, prompts, strict=True)
            there = [(answer, one) for answer, one in pairs if _names(one, word, name)]
            hits = [is_seen(word, answer, one.scene) for answer, one in there]
            if hits:
                out[word] = sum(hits) / len(hits)
    return out


def look(pictures: Tensor) -> Verdict:
    """The first judge's verdict on (N, 3, 128, 128) pictures in 0..1."""
    return plain_judge().look(pictures)


def _names(prompt: Prompt, word: str, name: str) -> bool:
    """Whether the prompt shows the word; a relation only where it is said."""
    return shows(prompt.scene, word) and (name != "relation" or f" {word} " in prompt.text)


def _obeyed(answer: Answer, prompt: Prompt, but: str) -> float:
    scene, erased = prompt.scene, field_of(but) if but else ""
    asked = ["kind", *ASKED[scene.kind], *(["background"] if prompt.background else [])]
    if erased == "relation" and shows(scene, but):
        here = {answer.get("subject"), answer.get("second")}
        hits = [getattr(scene, part) in here for part in ASKED["over"]]
        hits += [answer["background"] == scene.background] * prompt.background
        return sum(hits) / len(hits)
    open_ = {part for part in asked if getattr(scene, part) == but}
    if scene.colour not in prompt.text:  # "a postgres mug" leaves its colour open
        open_.add("colour")
    hits = [answer.get(part) == getattr(scene, part) for part in asked if part not in open_]
    return sum(hits) / len(hits)


def _prompts(wanted: Accept, count: int, seed: int) -> list[Prompt]:
    """Raises ValueError where MOST_DRAWN scenes give too few."""
    rng = Random(seed)
    prompts: dict[str, Prompt] = {}
    for _ in range(MOST_DRAWN):
        scene = random_scene(rng)
        text = caption(scene, rng, PLAIN_WORDS)
        prompt = Prompt(text, scene, "background" in text)
        if wanted(prompt):
            prompts.setdefault(text, prompt)
        if len(prompts) == count:
            return list(prompts.values())
    raise ValueError(
        f"Got {len(prompts)} prompts of {MOST_DRAWN} scenes, expected {count}. Ask for fewer."
    )
