"""The losses of one training step, on the states that it draws."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..config import EraseConfig
from ..interfaces import Adapters, Conditioning
from .adversary import Adversary
from .losses import (
    ATTENTION_LOSSES,
    ERASE_LOSSES,
    attention_feature,
    keep_loss,
    mean_where,
    rsc_loss,
)
from .teacher import CountedModel, Trajectories
from .trajectories import TrainingBatch


@dataclass(frozen=True)
class Objective:
    """One training: what does not change while it runs."""

    model: CountedModel
    lora: Adapters
    trajectories: Trajectories
    generator: Generator
    adversary: Adversary | None = None

    @property
    def config(self) -> EraseConfig:
        return self.model.config

    def erase_losses(self) -> dict[str, Tensor]:
        """L_esd, and L_attn where it counts, on states of the concept's and anchor's paths.

        L_attn is about words as people write them, so that prompts under attack are left out of it:
        the teacher's attention on them is not known, and holding it down moves other words' too.
        """
        model, encoded = self.model, self.model.encoded
        batch = self.trajectories.erase.draw(
            self.config.batch, self.generator, early=self.config.early
        )
        tokens = encoded.tokens.take(batch.rows)
        if self.adversary:
            cond, attacked = self.adversary.attack(batch.rows, self.generator)
        else:
            cond = encoded.concept.take(batch.rows)
            attacked = torch.zeros(len(batch.rows), dtype=torch.bool)
        v, blocks = model.velocity(batch.x_t, batch.t, cond, tokens.all if model.watched else None)
        v_concept, v_anchor = batch.teacher_velocity.to(v).unbind(dim=1)
        erase = ERASE_LOSSES[self.config.erase_form]
        losses = {"esd": erase(v, v_concept, v_anchor, self.config.negative_guidance)}
        if model.watched:
            attention = ATTENTION_LOSSES[self.config.attention_form]
            each = attention(blocks, batch.mass, tokens, self.config.attention_others)
            losses["attention"] = mean_where(~attacked, each)
        return losses

    def learn_attack(self) -> None:
        """After the backward of the erase losses: the adversary takes its part of it."""
        if self.adversary:
            self.adversary.learn()

    def preserve_losses(self) -> dict[str, Tensor]:
        """L_keep and L_rsc, those that count."""
        weights, losses = self.config.weights, {}
        if weights.keep > 0:
            losses["keep"] = self.keep_loss(self.draw_keep(self.config.keep_per_step))
        if weights.rsc > 0 and self.model.encoded.contrast is not None:
            losses["rsc"] = self._rsc_loss()
        return losses

    def draw_keep(self, count: int) -> TrainingBatch:
        """States of the keep prompts' paths."""
        assert self.trajectories.keep is not None
        return self.trajectories.keep.draw(count, self.generator)

    def keep_loss(self, batch: TrainingBatch) -> Tensor:
        """L_keep on given states of the keep prompts' paths."""
        cond = self.model.encoded.keep.take(batch.rows)
        v, _ = self.model.velocity(batch.x_t, batch.t, cond, None)
        return keep_loss(v, batch.teacher_velocity[:, 0].to(v))

    def _rsc_loss(self) -> Tensor:
        """L_rsc on one state for all of a sentence's words: concept, synonym, K irrelevant."""
        encoded, contrast = self.model.encoded, self.model.encoded.contrast
        assert contrast is not None
        batch = self.trajectories.erase.draw(self.config.keep_per_step, self.generator)
        k = contrast.per_pair
        rows = (batch.rows[:, None] * k + torch.arange(k)).flatten()
        x_t, t = batch.x_t.repeat_interleave(k, 0), batch.t.repeat_interleave(k)
        concept = self._feature(
            batch.x_t, batch.t, encoded.concept, encoded.tokens.concept, batch.rows
        )
        with torch.no_grad(), self.lora.disabled():
            synonym = self._feature(
                batch.x_t, batch.t, contrast.synonym, contrast.synonym_tokens, batch.rows
            )
            others = self._feature(x_t, t, contrast.irrelevant, contrast.irrelevant_tokens, rows)
        others = others.unflatten(0, (len(batch.rows), k))
        return rsc_loss(concept, synonym, others, self.config.rsc_temperature)

    def _feature(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, tokens: Tensor, rows: Tensor
    ) -> Tensor:
        """F of the words at `tokens` in the prompts `rows`."""
        _, blocks = self.model.velocity(x_t, t, cond.take(rows), tokens[rows])
        return attention_feature(blocks, tokens[rows].to(blocks[0].device))
