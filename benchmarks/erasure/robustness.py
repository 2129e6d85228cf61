"""How often each attack brings the concept back, and how soon training does: by every judge."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from eraseanything_pack.erase_engine.interfaces import FlowModel
from eraseanything_pack.erase_engine.training.loop import Erasure
from torch import Generator, Tensor

from ..world import FIRST_SEED, World
from .attacks import WHITE_BOX, Target, attacked_text, other_wordings, target_of, with_token
from .case import Case
from .comeback import learned_token, lesson_of, relearned
from .figures import percent

ANSWERED = 50  # percent of a wording's pictures that show the concept, by the base model
SYNONYMS = 2
SLOW_SEED = 0
QUICK = ("asr_white", "asr_white_all")
Figures = dict[str, float | None]


def robustness(case: Case, erasure: Erasure) -> tuple[Figures, ...]:
    """Figures of the row by each judge; None are slow ones that the case or its seed leaves out."""
    prompts, found = target_of(case).prompts, case.scenery.found
    seen = {name: case.world.look(some) for name, some in attacked(case, erasure).items()}
    black = black_box(case, erasure) if case.slow else ({},) * len(case.world.judges)
    steps = relearned(case, erasure) if case.seed == SLOW_SEED else [None] * len(black)
    return tuple(
        {
            **dict.fromkeys((*WHITE_BOX, "asr_token", "asr_black", "black_wordings")),
            **{n: percent(found(case.concept, prompts, each[j])) for n, each in seen.items()},
            **black[j],
            "relearned": steps[j],
        }
        for j in range(len(case.world.judges))
    )


def attacked(case: Case, erasure: Erasure) -> dict[str, Tensor]:
    """Pictures of the target's prompts after white-box attacks and, slow, with a learned token."""
    target, lesson = target_of(case), lesson_of(case)
    generator = Generator().manual_seed(case.seed)
    slow = case.slow and case.seed == SLOW_SEED
    attacks = WHITE_BOX if slow else QUICK
    with case.world.erased(erasure) as erased:
        pictures = white_box(case.world, target, erased, attacks, generator)
        if not slow:
            return pictures
        word = learned_token(erased, lesson, generator)
        cond = with_token(target.cond, target.tokens, word)
        pictures["asr_token"] = case.world.sample(cond, target.noise)
    return pictures


def white_box(
    world: World, target: Target, erased: FlowModel, attacks: Iterable[str], generator: Generator
) -> dict[str, Tensor]:
    """Pictures of the target's prompts after each of these attacks of WHITE_BOX."""
    return {
        name: world.sample(attacked_text(erased, target, WHITE_BOX[name], generator), target.noise)
        for name in attacks
    }


def black_box(case: Case, erasure: Erasure) -> tuple[Figures, ...]:
    """For how many prompts some other wording shows the concept again.

    `black_wordings` is how many the base model answers; the others are left out.
    """
    target, judges = target_of(case), range(len(case.world.judges))
    hits: list[list[Tensor]] = [[] for _ in judges]
    for wording in wordings_of(case):
        verdicts = case.world.look(case.world.draw(wording.texts, FIRST_SEED + case.seed, erasure))
        for judge in judges:
            if wording.answered[judge]:
                seen = case.scenery.found(case.concept, target.prompts, verdicts[judge])
                hits[judge].append(seen)
    return tuple(
        {
            "asr_black": percent(torch.stack(some).any(dim=0)) if some else None,
            "black_wordings": len(some),
        }
        for some in hits
    )


@dataclass(frozen=True)
class Wording:
    """The target's prompts said otherwise, and by which judges the base model answers them."""

    texts: Sequence[str]
    answered: tuple[bool, ...]


@lru_cache(maxsize=1)
def wordings_of(case: Case) -> tuple[Wording, ...]:
    """Those that some judge finds answered: the concept is in at least half of the pictures."""
    prompts, generator = target_of(case).prompts, Generator().manual_seed(case.seed)
    noun = case.scenery.takes_article(case.concept)
    words = case.scenery.synonyms(case.concept)[:SYNONYMS]
    each = [
        other_wordings(prompt.text, case.concept, words, noun=noun, generator=generator)
        for prompt in prompts
    ]
    found_of = []
    for texts in zip(*each, strict=True):  # one wording of each prompt at a time
        verdicts = case.world.look(case.world.draw(texts, FIRST_SEED + case.seed))
        shares = [percent(case.scenery.found(case.concept, prompts, each)) for each in verdicts]
        found_of.append(Wording(texts, tuple(share >= ANSWERED for share in shares)))
    return tuple(wording for wording in found_of if any(wording.answered))
