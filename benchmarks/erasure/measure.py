"""One row of the table: a concept, a method and a seed, measured on pictures training never saw."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

import torch
from eraseanything_pack.erase_engine.concepts.grammar import fill, frame_of
from eraseanything_pack.erase_engine.concepts.plan import ConceptPlan
from eraseanything_pack.erase_engine.concepts.token_positions import concept_tokens
from eraseanything_pack.erase_engine.training.encoded_prompts import padded
from eraseanything_pack.erase_engine.training.loop import Erasure
from eraseanything_pack.tinyworld.draw import draw_conditioned, start_noise
from eraseanything_pack.tinyworld.evaluate import (
    Prompt,
    found,
    obeyed,
    prompts_with,
    prompts_without,
)
from eraseanything_pack.tinyworld.vocabulary import family, synonyms
from torch import Generator, Tensor

from ..process_memory import forget_peak, megabytes
from ..world import FIRST_SEED, World
from .attacks import attacked_text, other_wordings, paths_of
from .figures import drift, frechet_distance, percent
from .methods import config_of

ATTACKED = 12  # prompts


@dataclass
class Case:
    """One concept and seed: its prompts, and the base model's pictures, drawn once."""

    world: World
    concept: str
    seed: int
    count: int
    plan: ConceptPlan = field(init=False)
    prompts: dict[str, list[Prompt]] = field(init=False)
    _base: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.plan = self.world.plan(self.concept, seed=self.seed)
        named = prompts_with(self.concept, self.count, self.seed)
        words = synonyms(self.concept)
        self.prompts = {
            "named": named,
            "synonyms": [self.renamed(p, words[i % len(words)]) for i, p in enumerate(named)],
            "anchors": [self.renamed(prompt, self.plan.anchor) for prompt in named],
            "others": prompts_without(self.concept, self.count, self.seed),
        }

    @property
    def noun(self) -> bool:
        return family(self.concept) == "shape"

    def renamed(self, prompt: Prompt, word: str) -> Prompt:
        """The prompt with another word in the concept's place; its scene stays what it was."""
        text = fill(frame_of(prompt.text, (self.concept,), noun=self.noun), word)
        return Prompt(text, prompt.scene, prompt.background)

    def draw(self, kind: str, erasure: Erasure | None) -> Tensor:
        """Pictures of one kind of prompts."""
        if erasure is None and kind in self._base:
            return self._base[kind]
        texts = [prompt.text for prompt in self.prompts[kind]]
        pictures = self.world.draw(texts, FIRST_SEED + self.seed, erasure)
        if erasure is None:
            self._base[kind] = pictures
        return pictures

    def found(self, kind: str, pictures: Tensor) -> Tensor:
        """(N,) bool: which pictures of these prompts show the concept."""
        return found(self.concept, self.prompts[kind], self.world.judge.look(pictures))


def measured(case: Case, method: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The row, and its pictures for a sheet."""
    erasure, cost = (None, {}) if method == "base" else _train(case, method)
    pictures = {kind: case.draw(kind, erasure) for kind in ("named", "synonyms", "others")}
    base = {kind: case.draw(kind, None) for kind in ("anchors", "others")}
    row = {
        "concept": case.concept,
        "kind": family(case.concept),
        "method": method,
        "seed": case.seed,
        **quality(case, pictures, base),
        **({} if erasure is None else _attacks(case, erasure)),
        **cost,
    }
    return row, pictures


def quality(case: Case, erased: dict[str, Tensor], base: dict[str, Tensor]) -> dict[str, float]:
    """What the judge says of pictures, by the kind of their prompts."""
    judge, prompts = case.world.judge, case.prompts
    named, others = (judge.look(erased[kind]) for kind in ("named", "others"))
    features = [judge.features(some) for some in (erased["others"], base["others"])]
    return {
        "acc_e": percent(found(case.concept, prompts["named"], named)),
        "floor": percent(case.found("anchors", base["anchors"])),
        "acc_g": percent(case.found("synonyms", erased["synonyms"])),
        "acc_ir": percent(obeyed(prompts["others"], others)),
        "acc_co": percent(obeyed(prompts["named"], named, but=case.concept)),
        "drift": round(drift(erased["others"], base["others"]), 6),
        "fjd": round(frechet_distance(*features), 3),
    }


def _train(case: Case, method: str) -> tuple[Erasure, dict[str, float]]:
    forget_peak()
    start = time.perf_counter()
    erasure = case.world.erase(case.plan, config_of(method, case.seed))
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
