"""Two ways to put the erase step and the preserve step together on one LoRA."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor

from .objective import Objective
from .optimizer import AdapterOptimizer


class Alternate:
    """One erase step, then one preserve step at a lower rate, on one LoRA (the paper's solver)."""

    def __init__(self, run: Objective) -> None:
        self.run = run
        self.updates = AdapterOptimizer(run)

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

    def __init__(self, run: Objective) -> None:
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


_PRESERVING = ("keep", "rsc")


def _weighted(run: Objective, losses: dict[str, Tensor], multiplier: float = 1.0) -> Tensor:
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
