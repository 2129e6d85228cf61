"""A few changes of the concept's tokens, each for all prompts, that bring the concept back."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from ...closed_form.own_side import length_of, on_own_side, within
from ...config import EntranceConfig
from ...interfaces import Conditioning
from ..encoded_prompts import EncodedPrompts
from .moved_text import SHARE, moved_text

STARTS_AT = 0.3  # of the radius


class SharedAttack:
    """u_k <- project( u_k + rate radius g / |g| ),   |u_k| <= radius;   token + |token| u_k

    g is the gradient that leads to the teacher's velocity under the concept. What is found for many
    prompts at once belongs to the concept, and not to one sentence. Each token's change ends where
    a row that is `held` (M, n) is nearer: see `on_own_side`.
    """

    def __init__(
        self,
        encoded: EncodedPrompts,
        config: EntranceConfig,
        device: torch.device,
        *,
        held: Tensor,
    ) -> None:
        self._encoded, self._config, self._device = encoded, config, device
        width = encoded.concept.prompts[0].text.shape[1]
        self._held = held.to(device)
        self.change = torch.zeros(config.attacks, width, device=device)  # (K, n)

    def begin(self, start: Tensor, generator: Generator) -> None:
        """New ones around `start` (n,), each some way off at random."""
        new = torch.randn(self.change.shape, generator=generator).to(self._device)
        near = start + STARTS_AT * self._config.radius * new / length_of(new)
        self.change.copy_(within(near, self._config.radius))

    def attack(
        self, rows: Tensor, generator: Generator, *, share: float = SHARE
    ) -> tuple[Conditioning, Tensor]:
        """The prompts at `rows`, and which of them (B,) have a change: on average such a share."""
        hit = torch.rand(len(rows), generator=generator) < share
        self._chosen = torch.randint(len(self.change), (len(rows),), generator=generator)
        self._leaf, self._hit = self.change.clone().requires_grad_(), hit
        prompts = list(self._encoded.concept.take(rows).prompts)
        for place in hit.nonzero().flatten().tolist():
            tokens = self._encoded.tokens.concept[rows[place]]
            own, text = tokens[tokens >= 0].to(self._device), prompts[place].text.to(self._device)
            said = text[own].float()
            change = length_of(said) * self._leaf[self._chosen[place]]
            change = change + (on_own_side(change, said, self._held) - change).detach()
            prompts[place] = moved_text(replace(prompts[place], text=text), own, change)
        return Conditioning(tuple(prompts)), hit

    def descend(self, loss: Tensor) -> Tensor:
        """Moves those that were used down `loss`; returns the gradient's norm."""
        gradient = torch.autograd.grad(loss, self._leaf)[0]
        self._move(-gradient)
        return gradient.norm()

    def learn(self) -> None:
        """After the backward of a loss that is to fall: moves up it."""
        if self._leaf.grad is not None:
            self._move(self._leaf.grad)

    @torch.no_grad()
    def _move(self, direction: Tensor) -> None:
        direction = direction.nan_to_num(0, 0, 0)  # where it overflowed
        step = self._config.rate * self._config.radius * direction / length_of(direction)
        used = self._chosen[self._hit].unique().to(self._device)
        self.change[used] = within(self._leaf + step, self._config.radius)[used]
