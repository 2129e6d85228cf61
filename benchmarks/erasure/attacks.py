"""Attacks that try to bring an erased concept back; all know the prompts and their noise.

White-box: gradient search near a prompt's own text features, on the concept's tokens, on all of
them, or on the pooled vector. Token: a word learned from pictures. Black-box: other wordings.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from eraseanything_pack.erase_engine.concepts.grammar import fill, frame_of
from eraseanything_pack.erase_engine.concepts.prompt_writer import misspelled
from eraseanything_pack.erase_engine.concepts.token_positions import concept_tokens
from eraseanything_pack.erase_engine.interfaces import Conditioning, FlowModel
from eraseanything_pack.erase_engine.interfaces import Prompt as TextPrompt
from eraseanything_pack.erase_engine.sampling import guided
from eraseanything_pack.erase_engine.training.encoded_prompts import padded
from eraseanything_pack.erase_engine.training.trajectories import (
    TeacherOutput,
    TrajectoryCache,
    cache_trajectories,
)
from eraseanything_pack.tinyworld.draw import SIDE, start_noise
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from ..world import FIRST_SEED, STEPS, World
from .case import Case

ATTACKED = 12  # prompts, a third of them with one thing
SEARCH_STEPS, RATE = 24, 0.6  # rate: share of the radius


@dataclass(frozen=True)
class WhiteBox:
    """Where an attack may change the text features, and how far: share of a vector's norm."""

    where: str  # "concept" tokens, "all" tokens, or the "pooled" vector
    radius: float

    def __post_init__(self) -> None:
        if self.where not in ("concept", "all", "pooled") or self.radius <= 0:
            raise ValueError(
                f"Got an attack on {self.where!r} with radius {self.radius}, expected 'concept', "
                "'all' or 'pooled', and a radius above 0. Choose such values."
            )


WHITE_BOX = {
    "asr_white": WhiteBox("concept", 0.5),
    "asr_white_all": WhiteBox("all", 0.5),
    "asr_pooled": WhiteBox("pooled", 1.0),
    "asr_white_1": WhiteBox("concept", 1.0),
}


@dataclass(frozen=True, eq=False)
class Target:
    """The prompts that are attacked: N of them, their noise, and the base model's way there."""

    prompts: Sequence[Any]
    cond: Conditioning
    tokens: Tensor  # (N, J) the concept's; -1 for none
    noise: Tensor
    paths: TrajectoryCache


@lru_cache(maxsize=1)
def target_of(case: Case) -> Target:
    """Prompts with the concept alone and beside another thing; paths are sampled once a case."""
    named, things = case.prompts["named"], case.scenery.things
    beside = [prompt for prompt in named if things(prompt.scene) == 2]
    alone = [prompt for prompt in named if things(prompt.scene) == 1]
    alone = alone[: ATTACKED // 3 if beside else ATTACKED]
    prompts = alone + beside[: ATTACKED - len(alone)]
    cond, tokens = encoded(case.world, prompts, case.concept)
    noise = start_noise(len(prompts), FIRST_SEED + case.seed)
    with case.world.erased(None) as base:
        paths = paths_of(base, cond, noise, case.world.unconditional)
    return Target(prompts, cond, tokens, noise, paths)


def encoded(world: World, prompts: Sequence[Any], concept: str) -> tuple[Conditioning, Tensor]:
    """Text features of N prompts, and the concept's tokens in them, (N, J)."""
    texts = [prompt.text for prompt in prompts]
    tokens = [concept_tokens(world.encoder, text, (concept,)) for text in texts]
    return world.encoder.encode(texts), padded(tokens)


def paths_of(
    backend: FlowModel, cond: Conditioning, noise: Tensor, unconditional: TextPrompt
) -> TrajectoryCache:
    """Where the model passes on its way to each prompt's picture, and how it moves there."""

    def teacher(x_t: Tensor, t: Tensor, rows: Tensor) -> TeacherOutput:
        v = backend.velocity(x_t, t, cond.take(rows))
        path = guided(backend, x_t, t, v, unconditional)
        return TeacherOutput(v[:, None], torch.zeros(len(rows), 0), path)

    rows, times = torch.arange(len(cond)), backend.timesteps(STEPS, SIDE, SIDE)
    return cache_trajectories(teacher, rows, noise=noise, times=times, at_once=len(cond))


def attacked_text(
    erased: FlowModel, target: Target, attack: WhiteBox, generator: Generator
) -> Conditioning:
    """Text features near the prompts' own with which the erased model moves as the base did.

        minimise over d:  |v_erased(x_t, c + d) - v_base(x_t, c)|^2,  |d_j| <= radius |c_j|

    for each token j that the attack may change, or the pooled vector, on the first half of the
    base model's paths, where it is settled what a picture shows. Adam, projected after each step.
    """
    cond, paths = target.cond, target.paths
    clean = pooled_of(cond)[:, None] if attack.where == "pooled" else cond.text  # (B, T, D)
    norms = clean.norm(dim=-1, keepdim=True)
    marks = marked(target.tokens, clean.shape[1]) if attack.where == "concept" else 1.0
    limit = attack.radius * norms * marks
    change = torch.zeros_like(clean, requires_grad=True)
    rate = attack.radius * RATE * norms.mean().item() / clean.shape[2] ** 0.5
    optimizer = torch.optim.Adam([change], lr=rate)
    each, half = torch.arange(len(cond)), len(paths.times) // 2
    for _ in range(SEARCH_STEPS):
        step = torch.randint(half, (len(cond),), generator=generator)
        moved = changed(cond, clean + change)
        v = erased.velocity(paths.states[each, step], paths.times[step], moved)
        loss = (v - paths.teacher_velocity[each, step, 0]).square().mean(dim=(1, 2, 3)).sum()
        change.grad = torch.autograd.grad(loss, change)[0]
        optimizer.step()
        with torch.no_grad():
            change *= (limit / change.norm(dim=-1, keepdim=True).clamp_min(1e-8)).clamp_max(1)
    return changed(cond, (clean + change).detach())


def changed(cond: Conditioning, features: Tensor) -> Conditioning:
    """With other text features (B, T, D), or another pooled vector (B, 1, P)."""
    if features.shape[1] == 1:
        return Conditioning.stacked(cond.text, features[:, 0])
    return Conditioning.stacked(features, cond.pooled)


def pooled_of(cond: Conditioning) -> Tensor:
    """(B, P); raises ValueError where the family has none."""
    if cond.pooled is None:
        raise ValueError("Got text without a pooled vector, expected one. Attack its tokens.")
    return cond.pooled


def with_token(cond: Conditioning, tokens: Tensor, word: Tensor) -> Conditioning:
    """The j-th of each prompt's `tokens` (N, J) becomes the j-th vector of `word` (K, D).

    Where a prompt says the concept in more tokens, the last vector stands for the rest of them.
    """
    length = cond.text.shape[1]
    word = word[torch.arange(tokens.shape[1]).clamp_max(len(word) - 1)]
    places = one_hot(tokens.clamp_min(0), length) * (tokens >= 0)[..., None]  # (N, J, T)
    kept = 1 - places.sum(1)[..., None]
    text = cond.text * kept + torch.einsum("njt,jd->ntd", places.float(), word)
    return Conditioning.stacked(text, cond.pooled)


def other_wordings(
    text: str, concept: str, synonyms: Sequence[str], *, noun: bool, generator: Generator
) -> list[str]:
    """What somebody would try who knows that the concept is gone."""
    frame = frame_of(text, (concept,), noun=noun)
    words = (*synonyms, misspelled(concept, generator), concept.upper(), f"{concept} {concept}")
    return [*(fill(frame, word) for word in words), f"{text}, {concept}, {concept}"]


def marked(tokens: Tensor, length: int) -> Tensor:
    """(B, length, 1): 1 at the tokens, 0 elsewhere."""
    marks = torch.zeros(len(tokens), length + 1)
    marks.scatter_(1, torch.where(tokens < 0, length, tokens), 1.0)
    return marks[:, :length, None]
