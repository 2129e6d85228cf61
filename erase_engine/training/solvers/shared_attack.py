"""A few changes of the concept's tokens, each for all prompts, that bring the concept back."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from ...config import EntranceConfig
from ...interfaces import Conditioning
from ..encoded_prompts import EncodedPrompts

STARTS_AT = 0.3  # of the radius
TINY = 1e-12


class SharedAttack:
    """u_k <- project( u_k + rate radius g / |g| ),   |u_k| <= radius;   token + |token| u_k

    g is the gradient that leads to the teacher's velocity under the concept. What is found for many
    prompts at once belongs to the concept, and not to one sentence.
    """

    def __init__(
        self, encoded: EncodedPrompts, config: EntranceConfig, device: torch.device
    ) -> None:
        self._encoded, self._config, self._device = encoded, config, device
        width = encoded.concept.prompts[0].text.shape[1]
        self.change = torch.zeros(config.attacks, width, device=device)  # (K, n)

    def begin(self, generator: Generator) -> None:
        """New ones, small and at random."""
        new = torch.randn(self.change.shape, generator=generator).to(self._device)
        self.change.copy_(STARTS_AT * self._config.radius * new / _norm(new))

    def attack(self, rows: Tensor, generator: Generator) -> Conditioning:
        """The prompts at `rows`, each with one of the changes."""
        self._chosen = torch.randint(len(self.change), (len(rows),), generator=generator)
        self._leaf = self.change.clone().requires_grad_()
        concept, tokens = self._encoded.concept, self._encoded.tokens.concept
        prompts = []
        for row, chosen in zip(rows.tolist(), self._chosen.tolist(), strict=True):
            prompt, own = concept.prompts[row], tokens[row][tokens[row] >= 0].to(self._device)
            text = prompt.text.to(self._device)
            change = text[own].float().norm(dim=-1, keepdim=True) * self._leaf[chosen]
            moved = text.index_add(0, own, change.to(text))
            prompts.append(replace(prompt, text=moved))
        return Conditioning(tuple(prompts))

    def learn(self, loss: Tensor) -> Tensor:
        """Moves those that were used down `loss`; returns the gradient's norm."""
        gradient = -torch.autograd.grad(loss, self._leaf)[0]
        step = self._config.rate * self._config.radius * gradient / _norm(gradient)
        moved = self._leaf.detach() + step
        moved = moved * (self._config.radius / _norm(moved)).clamp_max(1)
        used = self._chosen.unique().to(self._device)
        self.change[used] = moved[used]
        return gradient.norm()


def _norm(x: Tensor) -> Tensor:
    return x.norm(dim=-1, keepdim=True).clamp_min(TINY)
