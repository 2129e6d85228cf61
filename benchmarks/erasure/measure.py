"""One row of the table: a concept, a method and a seed, measured on pictures training never saw."""

from __future__ import annotations

import time
from typing import Any

import torch
from eraseanything_pack.erase_engine.concepts.token_positions import concept_tokens
from eraseanything_pack.erase_engine.training.encoded_prompts import padded
from eraseanything_pack.erase_engine.training.loop import Erasure, train_erasure
from eraseanything_pack.tinyworld.draw import draw_conditioned, start_noise
from eraseanything_pack.tinyworld.evaluate import found
from eraseanything_pack.tinyworld.phrases import kind_of, synonyms
from torch import Generator, Tensor

from ..process_memory import forget_peak, megabytes
from ..world import FIRST_SEED
from .attacks import attacked_text, other_wordings, paths_of
from .case import Case, Pictures
from .figures import percent
from .methods import config_of
from .paper import train_paper
from .quality import Look, quality, suspects

ATTACKED = 12  # prompts


def measured(case: Case, method: str) -> tuple[dict[str, Any], Pictures]:
    """The row, and its pictures for a sheet."""
    erasure, cost = (None, {}) if method == "base" else _train(case, method)
    looks = look_at(case, erasure)
    first, second = (quality(look) for look in looks)
    row = {
        "concept": case.concept,
        "kind": kind_of(case.concept),
        "method": method,
        "seed": case.seed,
        **first,
        **cost,
        "judge2": second,
    }
    return row, looks[0].pictures


def look_at(case: Case, erasure: Erasure | None) -> tuple[Look, ...]:
    """Pictures of all kinds of prompts, and of the words that seem to suffer, by each judge."""
    pictures = {kind: case.draw(kind, erasure) for kind in case.kinds}
    absolute = erasure is None
    for word in suspects(Look.at(case, pictures, absolute=absolute)[0]):
        pictures[f"word {word}"] = case.draw(f"word {word}", erasure)
    return Look.at(case, pictures, absolute=absolute)


def _train(case: Case, method: str) -> tuple[Erasure, dict[str, float]]:
    forget_peak()
    start = time.perf_counter()
    train = train_paper if method == "paper" else train_erasure
    erasure = case.world.erase(case.plan, config_of(method, case.seed), train=train)
    return erasure, {
        "forwards": erasure.forwards,
        "seconds": round(time.perf_counter() - start, 1),
        "peak_mb": round(megabytes("VmHWM")),
    }


def _attacks(case: Case, erasure: Erasure) -> dict[str, float]:
    """How often each attack brings the concept back."""
    return {
        "asr_white": percent(_white_box(case, erasure)),
        "asr_black": percent(_black_box(case, erasure)),
    }


def _white_box(case: Case, erasure: Erasure) -> Tensor:
    """(ATTACKED,) bool: which attacked prompts show the concept again."""
    world, prompts = case.world, case.prompts["named"][:ATTACKED]
    texts = [prompt.text for prompt in prompts]
    cond, noise = world.encoder.encode(texts), start_noise(len(texts), FIRST_SEED + case.seed)
    tokens = padded([concept_tokens(world.encoder, text, (case.concept,)) for text in texts])
    generator = Generator().manual_seed(case.seed)
    with world.erased(None) as base:
        paths = paths_of(base, cond, noise)
    with world.erased(erasure) as erased:
        cond = attacked_text(erased, cond, tokens, paths, generator)
        pictures = draw_conditioned(erased, world.vae, cond, noise)
    return found(case.concept, prompts, world.judge.look(pictures))


def _black_box(case: Case, erasure: Erasure) -> Tensor:
    """(ATTACKED,) bool: for which prompts some other wording shows the concept again."""
    world, generator = case.world, Generator().manual_seed(case.seed)
    prompts, hits = case.prompts["named"][:ATTACKED], []
    words = synonyms(case.concept)
    wordings = [
        other_wordings(p.text, case.concept, words, noun=case.noun, generator=generator)
        for p in prompts
    ]
    for texts in zip(*wordings, strict=True):  # one wording of each prompt at a time
        pictures = world.draw(texts, FIRST_SEED + case.seed, erasure)
        hits.append(found(case.concept, prompts, world.judge.look(pictures)))
    return torch.stack(hits).any(dim=0)
