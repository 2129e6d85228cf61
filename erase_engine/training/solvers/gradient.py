"""Ways to put the erase step and the preserve step together on one LoRA."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import torch
from torch import Tensor

from ..objective import Objective
from .optimizer import AdapterOptimizer
from .schedule import Schedule


class Alternate:
    """One erase step, then one preserve step at a lower rate, on one LoRA (the paper's solver)."""

    solved, unsolved = False, 1.0

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.optimizer = AdapterOptimizer(objective)
        self.schedule = Schedule(objective)

    @property
    def last(self) -> int:
        """The step after which it ends, as far as is known."""
        return self.schedule.last

    @property
    def ended(self) -> str:
        """Why it ended before all steps were done, in words; "" where they were."""
        return self.schedule.ended

    def step(self, step: int) -> tuple[dict[str, float], float]:
        """The losses and the larger gradient's norm.

        Raises FloatingPointError where one is not finite; the LoRA is not then, either.
        """
        objective, config = self._objective_at(step), self.objective.config
        rate = self.schedule.rate(step)
        losses = objective.erase_losses()
        self.schedule.learn(step)
        norms = [self.optimizer.step(self._weighted(losses), rate=rate)]
        objective.learn_attack()
        if preserve := objective.preserve_losses():
            rate *= config.keep_learning_rate_ratio
            norms.append(self.optimizer.step(self._weighted(preserve), rate=rate))
        return numbers_of({**losses, **preserve}, norms, step=step)

    def tensors(self) -> dict[str, Tensor]:
        """All that a step depends on besides the LoRA and the generator; no copies."""
        return self.optimizer.tensors() | self._own_tensors()

    def _own_tensors(self) -> dict[str, Tensor]:
        adversary = self.objective.adversary
        attack = {"attack": adversary.change} if adversary else {}
        return attack | self.objective.states.tensors() | self.schedule.tensors()

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes copies of what `tensors` gave; KeyError or ValueError where some are missing."""
        own = self._own_tensors()
        for name, tensor in own.items():
            tensor.copy_(tensors[name])
        apart = own.keys() | {"attack"}  # which a closed form has where this has none
        self.optimizer.load({key: value for key, value in tensors.items() if key not in apart})

    def _objective_at(self, step: int) -> Objective:
        """With its adversary, where that takes part in the step."""
        attacked = self.schedule.under_attack(step)
        return self.objective if attacked else replace(self.objective, adversary=None)

    def _weighted(self, losses: Mapping[str, Tensor], multiplier: float = 1.0) -> Tensor:
        """The losses' weighted sum; those that preserve also count `multiplier`."""
        weights = self.objective.config.weights
        factors = {name: multiplier if name in PRESERVING else 1.0 for name in losses}
        terms = [factors[name] * getattr(weights, name) * loss for name, loss in losses.items()]
        return reduce(add, terms)


class Together(Alternate):
    """One step on L_erase + mu L_preserve, with mu = 1."""

    multiplier = torch.tensor(1.0, dtype=torch.float64)  # on the CPU: reading is free

    def step(self, step: int) -> tuple[dict[str, float], float]:
        losses, norm = self._taken(step)
        return numbers_of(losses, [norm], step=step)

    def _taken(self, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """Takes the step; the losses, and the gradient's norm.

        Each half goes back before the other goes forward: one at a time is in memory.
        """
        objective, found = self._objective_at(step), {}
        for half in (objective.erase_losses, objective.preserve_losses):
            if losses := half():
                self.optimizer.backward(self._weighted(losses, self.multiplier.item()))
                found |= losses
        objective.learn_attack()
        rate = self.schedule.rate(step)
        self.schedule.learn(step)
        return found, self.optimizer.update(rate=rate)


class Budget(Together):
    """The same, where mu rises while the drift is above its budget.

        mu <- max(0, mu + beta (L_keep - budget) / budget)

    with L_keep measured on the same states every time, so that only the LoRA moves it.
    """

    def __init__(self, objective: Objective) -> None:
        super().__init__(objective)
        self.multiplier = self.multiplier.clone()
        probe = objective.draw_keep(2 * objective.config.keep_per_step)
        self.probe = replace(probe, draws=None)  # measured only: later draws don't go by it

    def step(self, step: int) -> tuple[dict[str, float], float]:
        objective, config = self.objective, self.objective.config
        losses, norm = self._taken(step)
        if step % config.budget_every == 0:
            with torch.no_grad():
                losses = losses | {"drift": objective.keep_loss(self.probe)}
        values, largest = numbers_of(losses, [norm], step=step)
        if "drift" in values:
            excess = (values.pop("drift") - config.drift_budget) / max(config.drift_budget, 1e-8)
            self.multiplier.fill_(max(0.0, self.multiplier.item() + config.budget_rate * excess))
        return values | {"multiplier": self.multiplier.item()}, largest

    def tensors(self) -> dict[str, Tensor]:
        return super().tensors() | {"multiplier": self.multiplier}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        self.multiplier.copy_(tensors["multiplier"])
        super().load({key: value for key, value in tensors.items() if key != "multiplier"})


PRESERVING = ("keep", "rsc", "reconstruction")


def numbers_of(
    losses: Mapping[str, Tensor], norms: Sequence[Tensor], *, step: int
) -> tuple[dict[str, float], float]:
    """The losses and the largest of the gradients' norms, in one transfer from their device.

    Raises FloatingPointError where one is not finite.
    """
    scalars = [each.detach().float() for each in (*losses.values(), *norms)]
    found = torch.stack(scalars).tolist()
    values = dict(zip(losses, found, strict=False))
    for name, value in values.items():
        if not math.isfinite(value):
            raise FloatingPointError(
                f"Got {value} for the {name} loss in step {step}, expected a finite number. "
                "Lower the learning rate or the strength of erasure."
            )
    gradients = found[len(losses) :]
    for norm in gradients:
        if not math.isfinite(norm):
            raise FloatingPointError(
                f"Got a gradient whose norm is {norm} in step {step}, expected a finite number. "
                "Lower the learning rate or the strength of erasure."
            )
    return values, max(gradients)
