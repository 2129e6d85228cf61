"""Learning the concept anew from a few drawn pictures: as one new word, or as a LoRA."""

from __future__ import annotations

from collections.abc import Generator as Running
from contextlib import closing
from dataclasses import dataclass
from functools import lru_cache

import torch
from eraseanything_pack.erase_engine.flow import add_noise
from eraseanything_pack.erase_engine.interfaces import Conditioning, FlowModel
from eraseanything_pack.erase_engine.training.loop import Erasure
from torch import Generator, Tensor

from .attacks import encoded, target_of, with_token
from .case import Case
from .figures import percent

LEARNED = 16  # pictures
OTHER_SEED = 500  # of their prompts: added to the case's
TOKEN_STEPS, TOKEN_RATE, TOKEN_BATCH = 40, 0.1, 8  # rate: share of a token's norm
LORA_RATE, LORA_BATCH, LORA_RANK = 2e-3, 8, 8
CHECKED_EVERY, MOST_STEPS, HALF = 10, 80, 50.0  # steps; percent of pictures


@dataclass(frozen=True, eq=False)
class Lesson:
    """Pictures that show the concept, as latents (N, C, h, w), and what they are called."""

    latents: Tensor
    cond: Conditioning
    tokens: Tensor  # (N, J) the concept's

    def loss(
        self, model: FlowModel, cond: Conditioning, count: int, generator: Generator
    ) -> Tensor:
        """Flow matching on `count` of the pictures: |v(x_t, t) - (noise - x_0)|^2."""
        rows = torch.randint(len(self.latents), (count,), generator=generator)
        noise = torch.randn(count, *self.latents.shape[1:], generator=generator)
        t, x_0 = torch.rand(count, generator=generator), self.latents[rows]
        v = model.velocity(add_noise(x_0, noise, t), t, cond.take(rows))
        return (v - (noise - x_0)).square().mean()


@lru_cache(maxsize=1)
def lesson_of(case: Case) -> Lesson:
    """Pictures of prompts that are no test prompts."""
    tested = {prompt.text for prompt in case.prompts["named"]}
    prompts = case.scenery.prompts_with(
        case.concept, LEARNED, OTHER_SEED + case.seed, accept=lambda p: p.text not in tested
    )
    pictures = case.scenery.examples(case.world, prompts, case.seed)
    with torch.no_grad():
        code = case.world.vae.first_stage_model.encode(pictures * 2 - 1)
    return Lesson(
        case.world.vae.first_stage_model.latents.inside(code),
        *encoded(case.world, prompts, case.concept),
    )


def learned_token(erased: FlowModel, lesson: Lesson, generator: Generator) -> Tensor:
    """(J, D): textual inversion. One vector for each of the concept's tokens, in all prompts.

    It starts from the tokens' own features, and may go anywhere.
    """
    text, places = lesson.cond.text, lesson.tokens.clamp_min(0)
    own = text.gather(1, places[..., None].expand(-1, -1, text.shape[2]))  # (N, J, D)
    there = (lesson.tokens >= 0)[..., None]
    word = ((own * there).sum(0) / there.sum(0)).requires_grad_()
    rate = TOKEN_RATE * word.detach().norm(dim=-1).mean().item() / word.shape[1] ** 0.5
    optimizer = torch.optim.Adam([word], lr=rate)
    for _ in range(TOKEN_STEPS):
        cond = with_token(lesson.cond, lesson.tokens, word)
        loss = lesson.loss(erased, cond, TOKEN_BATCH, generator)
        word.grad = torch.autograd.grad(loss, word)[0]
        optimizer.step()
    return word.detach()


def relearned(case: Case, erasure: Erasure) -> tuple[float, ...]:
    """Steps of plain LoRA training until half of the pictures show the concept, by each judge.

    Looked at every CHECKED_EVERY steps, and read off the straight line between two looks;
    MOST_STEPS where it takes as many or more.
    """
    target, steps = target_of(case), [float(MOST_STEPS)] * len(case.world.judges)
    before = [0.0] * len(steps)
    with closing(lessons_learned(case, erasure)) as lessons:
        for step, pictures in lessons:
            verdicts = case.world.look(pictures)
            found = case.scenery.found
            shares = [percent(found(case.concept, target.prompts, each)) for each in verdicts]
            for judge, (last, share) in enumerate(zip(before, shares, strict=True)):
                if last < HALF <= share and steps[judge] == MOST_STEPS:
                    beyond = (share - HALF) / (share - last)
                    steps[judge] = round(step - CHECKED_EVERY * beyond, 1)
            before = shares
            if max(steps) < MOST_STEPS:
                break
    return tuple(steps)


def lessons_learned(case: Case, erasure: Erasure) -> Running[tuple[int, Tensor], None, None]:
    """The step and pictures of the target's prompts, every CHECKED_EVERY steps of training."""
    lesson, target = lesson_of(case), target_of(case)
    generator = Generator().manual_seed(case.seed)
    with case.world.erased(erasure) as model:
        slices = model.linear_slices(model.target_names("all_attention"))
        lora = model.adapters(slices, rank=LORA_RANK, generator=generator)
        optimizer = torch.optim.Adam(lora.parameters(), lr=LORA_RATE)
        with lora.attach(slices):
            for step in range(1, MOST_STEPS + 1):
                optimizer.zero_grad()
                lesson.loss(model, lesson.cond, LORA_BATCH, generator).backward()
                optimizer.step()
                if step % CHECKED_EVERY == 0:
                    yield step, case.world.sample(target.cond, target.noise)
