"""AdamW on the adapters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from ..objective import Objective

FLOAT16_LOSS_SCALE = 2.0**14
BETA_1 = 0.9


class AdapterOptimizer:
    """AdamW on the LoRA, with a learning rate for each update and clipped gradients.

        rate of A (r, n) = rate min(1, rate_width / n),   rate of B (m, r) = rate

    An update of Adam moves each number alike, so that A's moves add up over its n inputs: without
    this, a rate that suits a narrow model is n / rate_width times too high for a wide one. Source:
    LoRA+ (arXiv 2402.12354), which shows that A's rate must fall with the width and B's must not.

    The losses are means, whose gradients with respect to one number of the velocity are smaller
    than the smallest float16. For a model that computes in float16 the loss is therefore scaled
    before each backward pass, and the LoRA's gradients, which are float32, are scaled back.
    """

    def __init__(self, objective: Objective) -> None:
        self.config = objective.config
        self.parameters = objective.lora.parameters()
        half = objective.model.backend.dtype == torch.float16
        self.loss_scale = FLOAT16_LOSS_SCALE if half else 1.0
        self.optimizer = torch.optim.AdamW(
            self._groups(),
            lr=self.config.learning_rate,
            betas=(BETA_1, self.config.beta_2),
            weight_decay=self.config.weight_decay,
        )

    def _groups(self) -> list[dict[str, Any]]:
        """Parameters by their share of the rate; A's and B's take turns in the LoRA's list."""
        shares: dict[float, list[Tensor]] = {}
        for index, parameter in enumerate(self.parameters):
            width, is_down = self.config.rate_width, index % 2 == 0
            share = min(1.0, width / parameter.shape[1]) if width and is_down else 1.0
            shares.setdefault(share, []).append(parameter)
        return [{"params": some, "share": share} for share, some in shares.items()]

    def step(self, loss: Tensor, *, rate: float) -> Tensor:
        """One step down `loss` at `rate` times the learning rate.

        Returns the gradient's norm before clipping: on the LoRA's device, so that nothing waits
        for it. Where it is not finite, the LoRA is not either afterwards.
        """
        self.backward(loss)
        return self.update(rate=rate)

    def backward(self, loss: Tensor) -> None:
        """Adds the loss's gradients, times the loss scale, to the LoRA's."""
        (self.loss_scale * loss).backward()

    def update(self, *, rate: float) -> Tensor:
        """One step by the gradients that were added; they are gone then. Returns as `step`."""
        if self.loss_scale != 1:
            for parameter in self.parameters:
                if parameter.grad is not None:
                    parameter.grad.div_(self.loss_scale)
        norm = clip_grad_norm_(self.parameters, self.config.gradient_clip or math.inf)
        for group in self.optimizer.param_groups:
            group["lr"] = self.config.learning_rate * rate * group["share"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return norm

    def tensors(self) -> dict[str, Tensor]:
        """AdamW's own moments and step of each parameter, as `<number>.<name>`; no copies."""
        state = self.optimizer.state_dict()["state"]
        return {
            f"{number}.{name}": value
            for number, values in state.items()
            for name, value in values.items()
        }

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes copies of what `tensors` gave; raises ValueError where some are missing."""
        nested: dict[int, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            number, name = key.split(".")
            nested.setdefault(int(number), {})[name] = value.clone()
        complete = {"step", "exp_avg", "exp_avg_sq"}
        missing = {*range(len(self.parameters))} ^ {*nested}
        if nested and (missing or any(each.keys() != complete for each in nested.values())):
            raise ValueError(
                f"Got moments of {len(nested)} parameters, expected step, exp_avg and exp_avg_sq "
                f"of {len(self.parameters)}. Begin anew without resuming."
            )
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": nested})
