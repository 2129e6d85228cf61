"""AdamW on the adapters."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import clip_grad_norm_

from .objective import Objective


class AdapterOptimizer:
    """AdamW on the LoRA, with a learning rate for each update and clipped gradients.

        rate of A (r, n) = rate min(1, rate_width / n),   rate of B (m, r) = rate

    An update of Adam moves each number alike, so that A's moves add up over its n inputs: without
    this, a rate that suits a narrow model is n / rate_width times too high for a wide one. Source:
    LoRA+ (arXiv 2402.12354), which shows that A's rate must fall with the width and B's must not.
    """

    def __init__(self, run: Objective) -> None:
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
