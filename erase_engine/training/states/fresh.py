"""States of paths that are sampled for the step that looks at them, as the paper's release does.

This is what its schedule costs: `trajectory_steps` passes for each state.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

import torch
from torch import Generator, Tensor

from ...interfaces import Conditioning
from ..losses import attention_feature
from ..trajectories import TrainingBatch
from .cached import CachedStates, ContrastBatch


@dataclass(frozen=True)
class FreshStates(CachedStates):
    """Samples a whole path, from noise to picture, for each state."""

    @torch.no_grad()
    def erase(self, count: int, generator: Generator) -> TrainingBatch:
        """States of the student on the concept's prompts, and what the teacher says of them.

        The release asks about the finished picture at whatever time was drawn, and asks a teacher
        that has the LoRA on.
        """
        early = self.model.config.early
        state = self._drawn(self.model.encoded.concept, count, generator, early=early)
        with self.lora.disabled():
            found = self.model.erase_teacher(*state)
        return TrainingBatch(*state, found.teacher_velocity.cpu(), found.mass.cpu())

    @torch.no_grad()
    def keep(self, count: int, generator: Generator) -> TrainingBatch:
        """States of the teacher on the keep prompts."""
        with self.lora.disabled():
            state = self._drawn(self.model.encoded.keep, count, generator)
            found = self.model.keep_teacher(*state)
        return TrainingBatch(*state, found.teacher_velocity.cpu(), found.mass.cpu())

    @torch.no_grad()
    def contrast(self, count: int, generator: Generator) -> ContrastBatch:
        """A sampling for each word, all from one noise; attention is read in one of its passes.

        The concept's attention is to be read where the synonym's was.
        """
        model, contrast = self.model, self.model.encoded.contrast
        assert contrast is not None
        k, times = contrast.per_pair, self._times
        rows = torch.randint(len(model.encoded.concept), (count,), generator=generator)
        step = int(torch.randint(len(times) - 1, (), generator=generator))
        noise = model.noise(count, generator)
        read = partial(self._read, noise, step)
        with self.lora.disabled():
            states, synonym = read(contrast.synonym, contrast.synonym_tokens, rows)
            others = [
                read(contrast.irrelevant, contrast.irrelevant_tokens, rows * k + each)[1]
                for each in range(k)
            ]
        t = times[step].expand(count)
        return ContrastBatch(states[:, step], t, rows, synonym, torch.stack(others, dim=1))

    def _drawn(
        self, cond: Conditioning, count: int, generator: Generator, *, early: float = 1.0
    ) -> tuple[Tensor, Tensor, Tensor]:
        """x_t, t and rows: a time of its own on each of `count` paths, in their first `early`."""
        times = self._times
        most = math.ceil(early * (len(times) - 1))
        rows = torch.randint(len(cond), (count,), generator=generator)
        step = torch.randint(most, (count,), generator=generator)
        noise = self.model.noise(count, generator)
        states, _ = self.model.path(cond.take(rows), noise, on_pass=self.on_pass)
        return states[torch.arange(count), step], times[step], rows

    def _read(
        self, noise: Tensor, step: int, cond: Conditioning, tokens: Tensor, rows: Tensor
    ) -> tuple[Tensor, Tensor]:
        """The states on these prompts' paths, and F of the words at `tokens` in pass `step`."""
        states, blocks = self.model.path(
            cond.take(rows), noise, on_pass=self.on_pass, tokens=tokens[rows], read_at=step
        )
        return states, attention_feature(blocks, tokens[rows].to(blocks[0].device))

    @property
    def _times(self) -> Tensor:
        return self.model.times.cpu()
