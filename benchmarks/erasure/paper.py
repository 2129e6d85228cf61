"""The paper's schedule: it samples where `fast` remembers, which is what it costs.

Each erase step samples whole trajectories by the model as it is by then, and each contrastive loss
one for every word that it contrasts with, to read one attention map from each.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.flow import euler_path
from eraseanything_pack.erase_engine.interfaces import Conditioning, FlowModel
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from eraseanything_pack.erase_engine.training.encoded_prompts import EncodedPrompts
from eraseanything_pack.erase_engine.training.loop import Erasure, Training
from eraseanything_pack.erase_engine.training.losses import rsc_loss
from eraseanything_pack.erase_engine.training.objective import Objective
from eraseanything_pack.erase_engine.training.teacher import (
    CountedModel,
    ForwardCount,
    Trajectories,
)
from eraseanything_pack.erase_engine.training.trajectories import TrainingBatch, cache_trajectories
from torch import Generator, Tensor


def train_paper(
    backend: FlowModel, encoded: EncodedPrompts, config: EraseConfig, *, generator: Generator
) -> Erasure:
    """`train_erasure` on the paper's schedule; `forwards` counts what was sampled."""
    slices = backend.linear_slices(backend.target_names(config.lora.targets))
    numbers = {"rank": config.lora.rank, "alpha": config.lora.alpha, "init": config.lora.init}
    lora = backend.adapters(slices, **numbers, generator=generator)
    model = CountedModel(backend, encoded, config, ForwardCount(0))
    fresh = FreshPaths(model, lora)
    training = Training(
        PaperRun(model, lora, Trajectories(fresh, fresh.keep(generator)), generator), {}
    )
    with lora.attach(slices):
        for step in range(1, config.steps + 1):
            training.step(step)
    return Erasure(lora.state_dict(), training.history, model.count.forwards)


@dataclass(frozen=True)
class FreshPaths:
    """Stands for a cache: every draw samples a path of its own for each state."""

    model: CountedModel
    lora: LoraSet

    @torch.no_grad()
    def draw(self, count: int, generator: Generator, *, early: float = 1.0) -> TrainingBatch:
        """States of the student on the concept's prompts, and what the teacher says of them."""
        encoded, times = self.model.encoded, self.times
        rows = torch.randint(len(encoded.concept), (count,), generator=generator)
        step = torch.randint(len(times) - 1, (count,), generator=generator)
        noise = self.noise(count, generator)
        x_t = self.path(encoded.concept.take(rows), noise)[torch.arange(count), step]
        with self.lora.disabled():
            found = self.model.erase_teacher(x_t, times[step], rows)
        return TrainingBatch(x_t, times[step], rows, found.teacher_velocity.cpu(), found.mass.cpu())

    def path(self, cond: Conditioning, noise: Tensor) -> Tensor:
        """(B, S + 1, C, h, w): every state from the noise to the picture."""
        return euler_path(lambda x, t: self.model.velocity(x, t, cond, None)[0], noise, self.times)

    def noise(self, count: int, generator: Generator) -> Tensor:
        shape = (count, self.model.backend.latent_channels, *self.model.config.latent_size)
        return torch.randn(shape, generator=generator)

    def keep(self, generator: Generator) -> object:
        """Cached all the same: the paper's own pictures to keep are made before, too."""
        count = self.model.config.paths
        rows = torch.randint(len(self.model.encoded.keep), (count,), generator=generator)
        noise, teacher = self.noise(count, generator), self.model.keep_teacher
        return cache_trajectories(teacher, rows, noise=noise, times=self.times, at_once=count)

    @property
    def times(self) -> Tensor:
        config = self.model.config
        return self.model.backend.timesteps(config.trajectory_steps, *config.latent_size)


class PaperRun(Objective):
    """Contrasts with attention maps that are each read from a sampling of their own."""

    def _rsc_loss(self) -> Tensor:
        encoded, contrast = self.model.encoded, self.model.encoded.contrast
        assert contrast is not None
        probe = Probe.drawn(self)
        with torch.no_grad(), self.lora.disabled():
            x_t, synonym = probe.read(contrast.synonym, contrast.synonym_tokens, probe.rows)
            others = [
                probe.read(contrast.irrelevant, contrast.irrelevant_tokens, rows)[1]
                for rows in (probe.rows * contrast.per_pair + k for k in range(contrast.per_pair))
            ]
        concept = self._feature(x_t, probe.t, encoded.concept, encoded.tokens.concept, probe.rows)
        return rsc_loss(concept, synonym, torch.stack(others, 1), self.config.rsc_temperature)


@dataclass(frozen=True)
class Probe:
    """Where all attention maps of one contrastive loss are read: sentences, times, one noise."""

    run: PaperRun
    rows: Tensor  # (B,)
    step: Tensor  # (B,)
    noise: Tensor  # (B, C, h, w)

    @classmethod
    def drawn(cls, run: PaperRun) -> Probe:
        count, generator = run.config.keep_per_step, run.generator
        rows = torch.randint(len(run.model.encoded.concept), (count,), generator=generator)
        step = torch.randint(run.config.trajectory_steps, (count,), generator=generator)
        return cls(run, rows, step, run.trajectories.erase.noise(count, generator))  # type: ignore[attr-defined]

    @property
    def t(self) -> Tensor:
        return self.run.trajectories.erase.times[self.step]

    def read(self, cond: Conditioning, tokens: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """x_t on the way to these prompts' pictures, and F of the words at `tokens` there."""
        states = self.run.trajectories.erase.path(cond.take(rows), self.noise)  # type: ignore[attr-defined]
        x_t = states[torch.arange(len(rows)), self.step]
        return x_t, self.run._feature(x_t, self.t, cond, tokens, rows)
