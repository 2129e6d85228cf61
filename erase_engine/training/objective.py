"""The losses of one training step, on the states that it draws."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import fmean

import torch
from torch import Generator, Tensor

from ..closed_form.entrance import Entrances
from ..config import EraseConfig
from ..interfaces import Adapters
from .losses import (
    ATTENTION_LOSSES,
    ERASE_LOSSES,
    keep_loss,
    mean_where,
    reconstruction_loss,
    rsc_loss,
)
from .solvers.adversary import Adversary
from .solvers.shared_attack import SharedAttack
from .states.cached import CachedStates
from .states.fresh import FreshStates
from .teacher import CountedModel
from .trajectories import TrainingBatch


@dataclass(frozen=True)
class Objective:
    """One training: the model, the adapters, what they are trained on, and what they learn from."""

    model: CountedModel
    lora: Adapters
    states: CachedStates
    generator: Generator
    adversary: Adversary | SharedAttack | None = None
    entrances: Entrances | None = None  # solved, for the solver "solve"

    @property
    def config(self) -> EraseConfig:
        return self.model.config

    def erase_losses(self) -> dict[str, Tensor]:
        """L_esd, and L_attn where it counts, on states of the concept's and anchor's paths.

        L_attn is about words as people write them, so that prompts under attack are left out of it:
        the teacher's attention on them is not known, and holding it down moves other words' too.
        """
        model, encoded = self.model, self.model.encoded
        batch = self.states.erase(self.config.batch, self.generator)
        tokens = encoded.tokens.take(batch.rows)
        if self.adversary:
            cond, attacked = self.adversary.attack(batch.rows, self.generator)
        else:
            cond = encoded.concept.take(batch.rows)
            attacked = torch.zeros(len(batch.rows), dtype=torch.bool)
        v, blocks = model.velocity(batch.x_t, batch.t, cond, tokens.all if model.watched else None)
        losses = {"esd": batch.mean_of(lambda v: self._esd(v, batch.teacher_velocity), v)}
        if model.watched:
            attention = ATTENTION_LOSSES[self.config.attention_form]
            each = attention(blocks, batch.mass, tokens, self.config.attention_others)
            losses["attention"] = mean_where(~attacked, batch.counted(each))
        return losses

    def _esd(self, v: Tensor, teacher_velocity: Tensor) -> Tensor:
        """(B,) L_esd on each of the velocities (B, C, h, w)."""
        v_concept, v_anchor = teacher_velocity.to(v).unbind(dim=1)
        erase = ERASE_LOSSES[self.config.erase_form]
        return erase(v, v_concept, v_anchor, self.config.negative_guidance)

    def esd_at_first(self) -> float:
        """L_esd without an adapter: the mean over all states that are drawn, at no pass."""
        assert self.states.trajectories is not None
        erase = self.states.trajectories.erase
        paths = erase.teacher_velocity[:, : erase.drawn(self.config.early)]
        return fmean(self._esd(path[:, 0], path).mean().item() for path in paths)

    def learn_attack(self) -> None:
        """After the backward of the erase losses: the adversary takes its part of it."""
        if self.adversary:
            self.adversary.learn()

    def preserve_losses(self) -> dict[str, Tensor]:
        """L_keep, L_lora and L_rsc, those that count."""
        weights, losses = self.config.weights, {}
        if weights.keep > 0:
            losses["keep"] = self.keep_loss(self.draw_keep(self.config.keep_per_step))
        if weights.reconstruction > 0:
            losses["reconstruction"] = self._reconstruction_loss()
        if weights.rsc > 0 and self.model.encoded.contrast is not None:
            losses["rsc"] = self._rsc_loss()
        return losses

    def draw_keep(self, count: int) -> TrainingBatch:
        """States of the keep prompts' paths."""
        return self.states.keep(count, self.generator)

    def keep_loss(self, batch: TrainingBatch) -> Tensor:
        """L_keep on given states of the keep prompts' paths."""
        cond = self.model.encoded.keep.take(batch.rows)
        v, _ = self.model.velocity(batch.x_t, batch.t, cond, None)
        return batch.mean_of(lambda v: keep_loss(v, batch.teacher_velocity[:, 0].to(v)), v)

    def _reconstruction_loss(self) -> Tensor:
        """L_lora on pictures of what is to be kept, under the prompts that they show."""
        batch = self.states.pictures(self.config.keep_per_step, self.generator)
        cond = self.model.encoded.keep.take(batch.rows)
        v, _ = self.model.velocity(batch.x_t, batch.t, cond, None)
        return reconstruction_loss(v, batch.x_0, batch.noise)

    def _rsc_loss(self) -> Tensor:
        """L_rsc: the student's attention to the concept against the teacher's to other words."""
        encoded = self.model.encoded
        batch = self.states.contrast(self.config.keep_per_step, self.generator)
        concept = self.model.feature(
            batch.x_t, batch.t, encoded.concept, encoded.tokens.concept, batch.rows
        )
        temperature = self.config.rsc_temperature
        return rsc_loss(concept, batch.synonym, batch.irrelevant, temperature)


STATES = {"cached": CachedStates, "fresh": FreshStates}
