"""What the measures ask of a world's pictures, whatever they show; and the tiny world's answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from eraseanything_pack.tinyworld import evaluate, phrases
from eraseanything_pack.tinyworld.judge import Verdict
from eraseanything_pack.tinyworld.phrases import answers, in_place, read_phrase
from eraseanything_pack.tinyworld.pictures import render
from eraseanything_pack.tinyworld.vocabulary import SHAPE_NAMES, STYLE_NAMES, Scene
from torch import Generator, Tensor

from .prompts import other_words, part_prompts, word_prompts

WORDS = (
    *SHAPE_NAMES,
    *STYLE_NAMES[1:],
    *("red", "blue", "yellow", "cyan"),
    *("above", "below", "left of", "inside"),
)
PHRASES = (
    "red star",
    "green square",
    "striped circle",
    "dotted heart",
    "outlined blue",
    "cross above ring",
)
Prompts = Sequence[Any]  # of a world's own kind: each has a `text` and a `scene`


@dataclass(frozen=True)
class Scenery:
    """One world's prompts, and what a verdict says of pictures of them.

    `held_out_prompts(each, seed)` are of pairs of words that no training saw together.
    `prompts_with(concept, count, seed, accept=...)` names the concept, `prompts_without` does not;
    `word_prompts(word, count, seed, accept)` names another word, and `part_prompts` the parts of a
    phrase. `found`, `replaced` and `obeyed` are those of `tinyworld.evaluate`.
    """

    concepts: tuple[str, ...]
    quick: tuple[str, ...]
    any_prompts: Callable[..., list[Any]]
    held_out_prompts: Callable[..., list[Any]]
    prompts_with: Callable[..., list[Any]]
    prompts_without: Callable[..., list[Any]]
    word_prompts: Callable[..., list[Any]]
    part_prompts: Callable[..., list[Any]]
    found: Callable[[str, Prompts, Verdict], Tensor]  # (N,) bool
    found_by_name: Callable[[Prompts, Verdict], dict[str, float]]
    replaced: Callable[[str, str, Prompts, Verdict], Tensor]
    obeyed: Callable[..., Tensor]  # (N,) shares
    parts: Callable[[str, Prompts, Verdict], Tensor]
    kind_of: Callable[[str], str]  # the row's kind
    node_kind: Callable[[str], str]  # what the node's widget *kind* says
    takes_article: Callable[[str], bool]
    synonyms: Callable[[str], tuple[str, ...]]
    other_words: Callable[[str], tuple[str, ...]]
    things: Callable[[Any], int]  # in a scene
    shows: Callable[[Any, str], bool]  # a scene, a word
    exchanged: Callable[[Any, str, str], Any]
    possible: Callable[[Any], bool]  # whether the world's pictures show such a scene
    near: Callable[[str, str], bool] | None  # whether a word is of the concept's own field
    alone: Callable[[str, int], int]  # of a count of prompts, how many have the concept alone
    examples: Callable[[Any, Prompts, int], Tensor]  # pictures of prompts, to learn from


def is_possible(scene: Scene) -> bool:
    """One thing, or two that differ in shape and in colour."""
    if len(scene.things) == 1:
        return True
    first, second = scene.things
    return first.shape != second.shape and first.colour != second.colour


def node_kind(concept: str) -> str:
    """What the node's widget *kind* says of a concept."""
    phrase = read_phrase(concept)
    if phrase.relation is not None:
        return "relation"
    return "object" if "shape" in phrase.fields else "style"


def parts(concept: str, prompts: Prompts, verdict: Verdict) -> Tensor:
    """(N,) bool: everything that a phrase says of a thing is as asked, of each thing."""
    fields = read_phrase(concept).fields
    hits = [
        all(in_place(answer, one.scene, i, fields) for i in range(len(one.scene.things)))
        for answer, one in zip(answers(verdict), prompts, strict=True)
    ]
    return torch.tensor(hits)


def examples(world: Any, prompts: Prompts, seed: int) -> Tensor:
    """(N, 3, 128, 128) in 0..1: drawings of the prompts' scenes."""
    return render([prompt.scene for prompt in prompts], Generator().manual_seed(seed))


TINY_SCENERY = Scenery(
    concepts=WORDS + PHRASES,
    quick=("star", "striped", "red", "above", "red star"),
    any_prompts=evaluate.any_prompts,
    held_out_prompts=lambda *_: [],
    prompts_with=evaluate.prompts_with,
    prompts_without=evaluate.prompts_without,
    word_prompts=word_prompts,
    part_prompts=lambda concept, *how: (
        part_prompts(concept, *how) if phrases.kind_of(concept) == "phrase" else []
    ),
    found=evaluate.found,
    found_by_name=evaluate.found_by_name,
    replaced=evaluate.replaced,
    obeyed=evaluate.obeyed,
    parts=parts,
    kind_of=phrases.kind_of,
    node_kind=node_kind,
    takes_article=lambda concept: "shape" in read_phrase(concept).fields,
    synonyms=phrases.synonyms,
    other_words=other_words,
    things=lambda scene: len(scene.things),
    shows=evaluate.shows,
    exchanged=phrases.exchanged,
    possible=is_possible,
    near=None,
    alone=lambda concept, count: 0 if read_phrase(concept).relation is not None else count // 3,
    examples=examples,
)
