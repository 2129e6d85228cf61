"""Two ways to put the erase step and the preserve step together on one LoRA."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.utils import clip_grad_norm_

from .adversary import Adversary
from .backends.base import Conditioning
from .bank import Draw
from .config import EraseConfig
from .lora import LoraSet
from .losses import ATTENTION_LOSSES, ERASE_LOSSES, attention_feature, keep_loss, rsc_loss
from .teacher import Banks, PromptedModel


@dataclass(frozen=True)
class Run:
    """One training: what does not change while it runs."""

    model: PromptedModel
    lora: LoraSet
    banks: Banks
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
        draw = self.banks.erase.draw(self.config.batch, self.generator, early=self.config.early)
        tokens = encoded.watched(draw.rows) if model.watched else None
        if self.adversary:
            cond, attacked = self.adversary.attack(draw.rows, self.generator)
        else:
            cond = encoded.concept.take(draw.rows)
            attacked = torch.zeros(len(draw.rows), dtype=torch.bool)
        v, blocks = model.velocity(draw.x_t, draw.t, cond, tokens)
        v_concept, v_anchor = draw.answers.to(v).unbind(dim=1)
        erase = ERASE_LOSSES[self.config.erase_form]
        losses = {"esd": erase(v, v_concept, v_anchor, self.config.negative_guidance)}
        if model.watched:
            attention = ATTENTION_LOSSES[self.config.attention_form]
            concept, others = encoded.tokens.shape[1], self.config.attention_others
            each = attention(blocks, draw.mass, concept, others)
            losses["attention"] = _mean_where(~attacked, each)
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

    def draw_keep(self, count: int) -> Draw:
        """States of the keep prompts' paths."""
        assert self.banks.keep is not None
        return self.banks.keep.draw(count, self.generator)

    def keep_loss(self, draw: Draw) -> Tensor:
        """L_keep on given states of the keep prompts' paths."""
        cond = self.model.encoded.keep.take(draw.rows)
        v, _ = self.model.velocity(draw.x_t, draw.t, cond, None)
        return keep_loss(v, draw.answers[:, 0].to(v))

    def _rsc_loss(self) -> Tensor:
        """L_rsc on one state for all of a sentence's words: concept, synonym, K irrelevant."""
        encoded, contrast = self.model.encoded, self.model.encoded.contrast
        assert contrast is not None
        draw = self.banks.erase.draw(self.config.keep_per_step, self.generator)
        k = contrast.per_pair
        rows = (draw.rows[:, None] * k + torch.arange(k)).flatten()
        x_t, t = draw.x_t.repeat_interleave(k, 0), draw.t.repeat_interleave(k)
        concept = self._feature(draw.x_t, draw.t, encoded.concept, encoded.tokens, draw.rows)
        with torch.no_grad(), self.lora.disabled():
            synonym = self._feature(
                draw.x_t, draw.t, contrast.synonym, contrast.synonym_tokens, draw.rows
            )
            others = self._feature(x_t, t, contrast.irrelevant, contrast.irrelevant_tokens, rows)
        others = others.unflatten(0, (len(draw.rows), k))
        return rsc_loss(concept, synonym, others, self.config.rsc_temperature)

    def _feature(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, tokens: Tensor, rows: Tensor
    ) -> Tensor:
        """F of the words at `tokens` in the prompts `rows`."""
        _, blocks = self.model.velocity(x_t, t, cond.take(rows), tokens[rows])
        return attention_feature(blocks, tokens[rows].to(blocks[0].device))


class Alternate:
    """One erase step, then one preserve step at a lower rate, on one LoRA (the paper's solver)."""

    def __init__(self, run: Run) -> None:
        self.run = run
        self.updates = _Updates(run)

    def step(self, step: int) -> tuple[dict[str, float], float]:
        """The losses and the gradient's norm; FloatingPointError, before the update, for NaN."""
        rate = self.run.config.rate_at(step)
        erase = self.run.erase_losses()
        losses = _values(erase, step)
        norm = self.updates.apply(_weighted(self.run, erase), rate=rate)
        self.run.learn_attack()
        preserve = self.run.preserve_losses()
        losses |= _values(preserve, step)
        if preserve:
            rate *= self.run.config.keep_learning_rate_ratio
            norm = max(norm, self.updates.apply(_weighted(self.run, preserve), rate=rate))
        return losses, norm

    def state_dict(self) -> dict[str, Tensor]:
        """CPU copies of all that a step depends on besides the LoRA and the generator."""
        state = self.updates.state_dict()
        if self.run.adversary:
            state["attack"] = self.run.adversary.change.cpu().clone()
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state_dict` gave."""
        if self.run.adversary:
            self.run.adversary.change.copy_(state["attack"])
        self.updates.load_state_dict({k: v for k, v in state.items() if k != "attack"})


class Budget(Alternate):
    """One step on L_erase + mu L_preserve; mu rises while the drift is above its budget.

        mu <- max(0, mu + beta (L_keep - budget) / budget)

    with L_keep measured on the same states every time, so that only the LoRA moves it.
    """

    def __init__(self, run: Run) -> None:
        super().__init__(run)
        self.multiplier = 1.0
        self.probe = run.draw_keep(2 * run.config.keep_per_step)

    def step(self, step: int) -> tuple[dict[str, float], float]:
        rate = self.run.config.rate_at(step)
        losses = self.run.erase_losses() | self.run.preserve_losses()
        values = _values(losses, step)
        norm = self.updates.apply(_weighted(self.run, losses, self.multiplier), rate=rate)
        self.run.learn_attack()
        if step % self.run.config.budget_every == 0:
            self._follow_drift()
        return values | {"multiplier": self.multiplier}, norm

    def state_dict(self) -> dict[str, Tensor]:
        multiplier = torch.tensor(self.multiplier, dtype=torch.float64)
        return super().state_dict() | {"multiplier": multiplier}

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        self.multiplier = state["multiplier"].item()
        super().load_state_dict({k: v for k, v in state.items() if k != "multiplier"})

    @torch.no_grad()
    def _follow_drift(self) -> None:
        config = self.run.config
        drift = self.run.keep_loss(self.probe).item()
        excess = (drift - config.drift_budget) / max(config.drift_budget, 1e-8)
        self.multiplier = max(0.0, self.multiplier + config.budget_rate * excess)


SOLVERS: dict[str, type[Alternate]] = {"alternate": Alternate, "budget": Budget}


class _Updates:
    """AdamW on the LoRA, with a learning rate for each update and clipped gradients.

        rate of A (r, n) = rate min(1, rate_width / n),   rate of B (m, r) = rate

    An update of Adam moves each number alike, so that A's moves add up over its n inputs: without
    this, a rate that suits a narrow model is n / rate_width times too high for a wide one. Source:
    LoRA+ (arXiv 2402.12354), which shows that A's rate must fall with the width and B's must not.
    """

    def __init__(self, run: Run) -> None:
        self.config = run.config
        self.parameters = run.lora.parameters()
        self.optimizer = torch.optim.AdamW(
            self._groups(), lr=run.config.learning_rate, weight_decay=run.config.weight_decay
        )

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by their share of the rate; A's and B's take turns in the LoRA's list."""
        shares: dict[float, list[Tensor]] = {}
        for index, parameter in enumerate(self.parameters):
            width, is_down = self.config.rate_width, index % 2 == 0
            share = min(1.0, width / parameter.shape[1]) if width and is_down else 1.0
            shares.setdefault(share, []).append(parameter)
        return [{"params": some, "share": share} for share, some in shares.items()]

    def apply(self, loss: Tensor, *, rate: float) -> float:
        """One step down `loss` at `rate` times the learning rate; returns the gradient's norm."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        limit = self.config.gradient_clip or math.inf
        norm = clip_grad_norm_(self.parameters, limit).item()
        if not math.isfinite(norm):
            raise FloatingPointError(
                f"Got a gradient whose norm is {norm}, expected a finite number. "
                "Lower the learning rate or the strength of erasure."
            )
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate * group["share"]
        self.optimizer.step()
        return norm

    def state_dict(self) -> dict[str, Tensor]:
        """AdamW's moments and step of each parameter, as `<number>.<name>`, copied to the CPU."""
        state = self.optimizer.state_dict()["state"]
        return {
            f"{number}.{name}": value.cpu().clone()
            for number, values in state.items()
            for name, value in values.items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Takes back what `state_dict` gave."""
        nested: dict[int, dict[str, Tensor]] = {}
        for key, value in state.items():
            number, name = key.split(".")
            nested.setdefault(int(number), {})[name] = value.clone()
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": nested})


def _mean_where(chosen: Tensor, values: Tensor) -> Tensor:
    """The mean of the chosen ones of (B,) values; 0 where none is."""
    chosen = chosen.to(values)
    return (values * chosen).sum() / chosen.sum().clamp_min(1)


_PRESERVING = ("keep", "rsc")


def _weighted(run: Run, losses: dict[str, Tensor], multiplier: float = 1.0) -> Tensor:
    """The losses' weighted sum; those that preserve also count `multiplier`."""
    total = torch.zeros(())
    for name, loss in losses.items():
        factor = multiplier if name in _PRESERVING else 1.0
        total = total.to(loss.device) + factor * getattr(run.config.weights, name) * loss
    return total


def _values(losses: dict[str, Tensor], step: int) -> dict[str, float]:
    """The losses as numbers; raises FloatingPointError where one is not finite."""
    values = {name: loss.item() for name, loss in losses.items()}
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"Got {value} for the {name} loss in step {step}, expected a finite number. "
                "Lower the learning rate or the strength of erasure."
            )
    return values
