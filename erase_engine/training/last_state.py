"""The state after the last finished step: kept beside the LoRA, on its device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from .objective import Objective
from .solvers.table import Solver


@dataclass(frozen=True)
class Snapshot:
    """On the CPU: what the next step depends on besides trajectories, and the figures so far."""

    step: int  # steps that are done
    forwards: int
    history: dict[str, list[float]]  # a value for each step that is done
    lora: dict[str, Tensor]  # as `LoraSet.state_dict`
    solver: dict[str, Tensor]  # optimizer, adversary, multiplier, importance, last
    generator: Tensor  # state of the random numbers


class LastState:
    """Copies of everything that a step changes, made after each step without leaving the device.

    A step that fails or is interrupted half-way is undone by `restore`; `to_cpu` is for files.
    """

    def __init__(self, objective: Objective, solver: Solver) -> None:
        self.objective, self.solver = objective, solver
        self.step = 0
        self._copies: dict[str, Tensor] = {}
        self.keep(0)

    def keep(self, step: int) -> None:
        """Copies the state after `step`, which is done."""
        # An interrupt may fall in here. The training's own state is whole then: `restore` asks.
        self._unfinished: int | None = step
        live = self._live()
        if live.keys() == self._copies.keys():
            _copy_into(self._copies, live)
        else:
            self._copies = {name: tensor.clone() for name, tensor in live.items()}
        self.forwards = self.objective.model.count.forwards
        self.generator = self.objective.generator.get_state()
        self.step, self._unfinished = step, None

    def restore(self) -> None:
        """Puts LoRA and solver back to the last state; random numbers go on."""
        if self._unfinished is not None:
            self.keep(self._unfinished)
            return
        live = self._live()
        if live.keys() == self._copies.keys():
            _copy_into(live, self._copies)
        else:  # the step made the optimizer's first moments
            lora, solver = (under(f"{part}.", self._copies) for part in ("lora", "solver"))
            for tensor, copy in zip(self.objective.lora.parameters(), lora.values(), strict=True):
                tensor.data.copy_(copy)
            self.solver.load(solver)

    def to_cpu(self, history: Mapping[str, list[float]]) -> Snapshot:
        """The last state for a file, `history` cut at its step; the training goes back to it."""
        self.restore()
        return Snapshot(
            step=self.step,
            forwards=self.forwards,
            history={name: values[: self.step] for name, values in history.items()},
            lora=self.objective.lora.state_dict(),
            solver={
                name: value.to("cpu", copy=True) for name, value in self.solver.tensors().items()
            },
            generator=self.generator,
        )

    def _live(self) -> dict[str, Tensor]:
        """What a step changes, as it is now."""
        lora = {f"lora.{i}": p.detach() for i, p in enumerate(self.objective.lora.parameters())}
        return lora | {f"solver.{name}": value for name, value in self.solver.tensors().items()}


def _copy_into(targets: Mapping[str, Tensor], sources: Mapping[str, Tensor]) -> None:
    """Values of the same names, of one device at a time: few kernels, however many tensors."""
    for device in {tensor.device for tensor in targets.values()}:
        names = [name for name, tensor in targets.items() if tensor.device == device]
        wanted, given = ([some[name] for name in names] for some in (targets, sources))
        torch._foreach_copy_(wanted, given)  # pyright: ignore[reportPrivateImportUsage]


def under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
