"""Two attacks that try to bring an erased concept back; both know the prompt and its seed.

White-box: gradient search on the features of the concept's text tokens. Black-box: other wordings.
"""

from __future__ import annotations

import torch
from eraseanything_pack.erase_engine.concepts.grammar import fill, frame_of
from eraseanything_pack.erase_engine.concepts.prompt_writer import misspelled
from eraseanything_pack.erase_engine.interfaces import Conditioning, FlowModel
from eraseanything_pack.erase_engine.training.trajectories import (
    TeacherOutput,
    TrajectoryCache,
    cache_trajectories,
)
from eraseanything_pack.tinyworld.draw import SIDE, STEPS
from torch import Generator, Tensor

SEARCH_STEPS, RATE, RADIUS = 40, 0.1, 0.5  # rate and radius: shares of a token's own norm


def paths_of(backend: FlowModel, cond: Conditioning, noise: Tensor) -> TrajectoryCache:
    """Where the model passes on its way to each prompt's picture, and how it moves there."""

    def teacher(x_t: Tensor, t: Tensor, rows: Tensor) -> TeacherOutput:
        v = backend.velocity(x_t, t, cond.take(rows))
        return TeacherOutput(v[:, None], torch.zeros(len(rows), 0))

    rows, times = torch.arange(len(cond)), backend.timesteps(STEPS, SIDE, SIDE)
    return cache_trajectories(teacher, rows, noise=noise, times=times, at_once=len(cond))


def attacked_text(
    erased: FlowModel,
    cond: Conditioning,
    tokens: Tensor,
    paths: TrajectoryCache,
    generator: Generator,
) -> Conditioning:
    """Text features near the prompts' own with which the erased model moves as the base did.

        minimise over d:  |v_erased(x_t, c + d) - v_base(x_t, c)|^2,  |d_j| <= RADIUS |c_j|

    for each concept token j (B, J; -1 for none), on the first half of the base model's `paths`,
    where it is settled what a picture shows. Adam, projected after each step.
    """
    norms = cond.text.norm(dim=-1, keepdim=True)  # (B, T, 1)
    limit = RADIUS * norms * _marked(tokens, cond.text.shape[1])
    change = torch.zeros_like(cond.text, requires_grad=True)
    optimizer = torch.optim.Adam(
        [change], lr=RATE * norms.mean().item() / cond.text.shape[2] ** 0.5
    )
    each, half = torch.arange(len(cond)), len(paths.times) // 2
    for _ in range(SEARCH_STEPS):
        step = torch.randint(half, (len(cond),), generator=generator)
        moved = Conditioning.stacked(cond.text + change, cond.pooled)
        v = erased.velocity(paths.states[each, step], paths.times[step], moved)
        loss = (v - paths.teacher_velocity[each, step, 0]).square().mean(dim=(1, 2, 3)).sum()
        change.grad = torch.autograd.grad(loss, change)[0]
        optimizer.step()
        with torch.no_grad():
            change *= (limit / change.norm(dim=-1, keepdim=True).clamp_min(1e-8)).clamp_max(1)
    return Conditioning.stacked((cond.text + change).detach(), cond.pooled)


def other_wordings(
    text: str, concept: str, synonyms: tuple[str, ...], *, noun: bool, generator: Generator
) -> list[str]:
    """What somebody would try who knows that the concept is gone."""
    frame = frame_of(text, (concept,), noun=noun)
    words = (*synonyms, misspelled(concept, generator), concept.upper(), f"{concept} {concept}")
    return [*(fill(frame, word) for word in words), f"{text}, {concept}, {concept}"]


def _marked(tokens: Tensor, length: int) -> Tensor:
    """(B, length, 1): 1 at the tokens, 0 elsewhere."""
    marks = torch.zeros(len(tokens), length + 1)
    marks.scatter_(1, torch.where(tokens < 0, length, tokens), 1.0)
    return marks[:, :length, None]
