"""The learning rate over a training, and when the training ends."""

from __future__ import annotations

import math

import torch

from ..importance import NEWEST
from ..objective import Objective

FIRST_LOSSES = math.ceil(1 / NEWEST)  # a running mean of fewer tells too little
SETTLED = "It ended by itself, as little was left of the way from the concept to its replacement."


class Schedule:
    """The learning rate's factor: 1, then a straight fall towards 0.

        min(1, (last - step + 1) / (cooldown * steps))

    `last` is the last of all steps, or sooner: the fall begins as soon as what is left of L_esd,
    by the running mean that draws by importance go by, is `settled` times what it is without an
    adapter. Source: warmup-stable-decay, whose flat part may be of any length (MiniCPM, arXiv
    2404.06395).
    """

    def __init__(self, objective: Objective) -> None:
        config, draws = objective.config, objective.states.importance.get("erase")
        self.steps, self._fall = config.steps, config.cooldown * config.steps
        self._last = torch.tensor(config.steps)
        self._draws = draws if config.settled else None
        self._enough = config.settled * objective.esd_at_first() if self._draws else 0.0

    @property
    def last(self) -> int:
        """The step after which it ends, as far as is known."""
        return int(self._last)

    @property
    def ends_sooner(self) -> bool:
        """Whether that is before all steps are done."""
        return self.last < self.steps

    @property
    def ended(self) -> str:
        """Why it ends sooner, in words; "" where it does not."""
        return SETTLED if self.ends_sooner else ""

    def rate(self, step: int) -> float:
        """The factor in `step`, from 1."""
        return min(1.0, (self.last - step + 1) / self._fall) if self._fall else 1.0

    def under_attack(self, step: int) -> bool:
        """Whether an adversary takes part in `step`: where a loss is to come down first, once the
        rate falls (if it does), since under attack it would not come down so far.
        """
        return self._draws is None or not self._fall or self.rate(step) < 1

    def learn(self, step: int) -> None:
        """After the losses of `step`."""
        if self._draws is None or self.ends_sooner or step < FIRST_LOSSES:
            return
        if self._draws.mean.item() <= self._enough:
            self._last.fill_(min(self.steps, step + math.ceil(self._fall)))

    def tensors(self) -> dict[str, torch.Tensor]:
        """All that it depends on besides the draws; no copies."""
        return {"last": self._last}
