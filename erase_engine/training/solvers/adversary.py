"""Text features that bring an erased concept back, found while it is erased, at no pass's cost.

The backward of an erase step gives the gradient of its loss with respect to the prompt as well.
Each prompt keeps a change of its concept's tokens, which that gradient moves to where the student
still draws the concept, and the next step has to hold out against it: adversarial training whose
attack is free (Shafahi et al., 2019), on text features instead of pictures.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor
from torch.nn.utils.rnn import pad_sequence

from ...closed_form.own_side import length_of, within
from ...interfaces import Conditioning
from ..encoded_prompts import EncodedPrompts
from .moved_text import SHARE, moved_text


class Adversary:
    """d_j <- project( d_j + rate * radius |c_j| * g_j / |g_j| ),   |d_j| <= radius |c_j|

    for each concept token j of each concept prompt, g the gradient of the erase losses.

    Args:
        encoded: N concept prompts (N, T, D) and where their concept's tokens are (N, J).
        radius: share of a token's own norm that its change may have.
        rate: share of the radius that one step goes.
        device: the model's, on which the attacked prompts are, so that no gradient leaves it.
    """

    def __init__(
        self, encoded: EncodedPrompts, *, radius: float, rate: float, device: torch.device
    ) -> None:
        self.concept, self.rate = encoded.concept, rate
        rows = zip(encoded.concept.prompts, encoded.tokens.concept, strict=True)
        own = [(prompt.text, tokens[tokens >= 0]) for prompt, tokens in rows]
        self._tokens = [tokens.to(device) for _, tokens in own]
        vectors = [text[tokens.to(text.device)].to(device) for text, tokens in own]
        norms = [each.float().norm(dim=-1, keepdim=True) for each in vectors]
        self.limit = radius * pad_sequence(norms, batch_first=True)  # (N, J, 1); 0 beyond a word
        width = encoded.concept.prompts[0].text.shape[1]
        self.change = torch.zeros(*self.limit.shape[:2], width, device=self.limit.device)

    def attack(self, rows: Tensor, generator: Generator) -> tuple[Conditioning, Tensor]:
        """The prompts at `rows`, and which of them (B,) have the change that `learn` will move."""
        hit = torch.rand(len(rows), generator=generator) < SHARE
        self._rows = rows[hit]
        device = self.change.device
        prompts = [
            replace(one, text=one.text.to(device)) for one in self.concept.take(rows).prompts
        ]
        self._leaf = self.change[self._rows].requires_grad_()
        for place, row, change in zip(hit.nonzero(), self._rows, self._leaf, strict=True):
            tokens = self._tokens[row]
            prompts[place] = moved_text(prompts[place], tokens, change[: len(tokens)])
        return Conditioning(tuple(prompts)), hit

    @torch.no_grad()
    def learn(self) -> None:
        """After the loss's backward: the attacked prompts go up the loss from where they are."""
        gradient, limit = self._leaf.grad, self.limit[self._rows]
        if gradient is None:  # no prompt was attacked
            return
        gradient = gradient.nan_to_num(0, 0, 0)  # where it overflowed
        moved = self._leaf + self.rate * limit * gradient / length_of(gradient)
        self.change[self._rows] = within(moved, limit)
