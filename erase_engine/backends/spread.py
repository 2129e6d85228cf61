"""One model in several processes, each of which runs its part of every batch."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol, cast

import torch
from torch import Tensor
from torch.autograd import Function

from ..interfaces import AttentionCapture, Conditioning, FlowModel, LinearSlice


class Processes(Protocol):
    """What the processes tell each other; all ask alike, in one order."""

    @property
    def count(self) -> int: ...

    @property
    def index(self) -> int: ...

    def gathered(self, own: Tensor) -> Tensor:
        """Every process's rows, in their order; each has as many."""
        ...

    def mean(self, own: Tensor) -> Tensor:
        """The mean of what each process has."""
        ...


def spread(model: FlowModel, processes: Processes) -> FlowModel:
    """The model as all processes together have it; itself where there is one."""
    return model if processes.count == 1 else cast(FlowModel, SpreadModel(model, processes))


class SpreadModel:
    """A `FlowModel` that gives all processes the velocities of the whole batch.

    Each of N processes runs ceil(B / N) samples; the last ones run some twice where B is no
    multiple of N. All then compute one loss, and one gradient: that of the whole batch.

        dL/dw = sum over processes of dL/dv_own dv_own/dw

    as the mean of N times each part, so that what a process computes by itself counts once.
    """

    def __init__(self, model: FlowModel, processes: Processes) -> None:
        self._model, self._processes = model, processes

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def adapters(self, slices: dict[str, LinearSlice], **numbers: Any) -> Any:
        """The model's own, whose gradients are all processes'."""
        made = self._model.adapters(slices, **numbers)
        for parameter in made.parameters():
            parameter.register_hook(self._processes.mean)
        return made

    def velocity(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, *, capture: AttentionCapture | None = None
    ) -> Tensor:
        """As of the model itself."""
        share = -(-len(x_t) // self._processes.count)
        first = self._processes.index * share
        rows = torch.arange(first, first + share) % len(x_t)
        cond, link = self._shared_text(cond)
        own = capture and replace(capture, tokens=capture.tokens[rows], mass={}, likeness={})
        v = self._model.velocity(x_t[rows], t[rows], cond.take(rows), capture=own)
        if link is not None:
            v = v + link
        if capture and own:
            for found, part in ((capture.mass, own.mass), (capture.likeness, own.likeness)):
                found |= {block: self._whole(each, len(x_t)) for block, each in part.items()}
        return self._whole(v, len(x_t))

    def _whole(self, own: Tensor, count: int) -> Tensor:
        return _Whole.apply(own, count, self._processes)

    def _shared_text(self, cond: Conditioning) -> tuple[Conditioning, Tensor | None]:
        """The prompts, where text that is to be moved gets all processes' gradient; and a 0 that
        depends on it: every process takes part, though none of its own prompts is moved.
        """
        moved = [row for row, each in enumerate(cond.prompts) if each.text.requires_grad]
        if not moved or not torch.is_grad_enabled():
            return cond, None
        texts = [cond.prompts[row].text for row in moved]
        shared = _Shared.apply(torch.cat([each.flatten() for each in texts]), self._processes)
        parts = shared.split([each.numel() for each in texts])
        prompts = list(cond.prompts)
        for row, text, part in zip(moved, texts, parts, strict=True):
            prompts[row] = replace(prompts[row], text=part.view_as(text))
        return Conditioning(tuple(prompts)), shared[:0].sum()


class _Whole(Function):
    """Own rows -> all rows; back, N times the gradient of the own ones."""

    @staticmethod
    def forward(ctx: Any, own: Tensor, count: int, processes: Processes) -> Tensor:
        ctx.share, ctx.processes = len(own), processes
        return processes.gathered(own)[:count]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (whole,) = gradients
        first = ctx.processes.index * ctx.share
        part = whole[first : first + ctx.share]
        own = whole.new_zeros(ctx.share, *whole.shape[1:])  # 0 for what ran twice
        own[: len(part)] = part * ctx.processes.count
        return own, None, None


class _Shared(Function):
    """The same everywhere; back, the mean of every process's gradient."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, processes: Processes) -> Tensor:
        ctx.processes = processes
        return whole.view_as(whole)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:
        return ctx.processes.mean(gradients[0].contiguous()), None
