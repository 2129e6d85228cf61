"""The solvers by their names in a config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from torch import Tensor

from ..objective import Objective
from .gradient import Alternate, Budget
from .solve import Solve


class Solver(Protocol):
    """Takes the steps of one training."""

    solved: bool  # a closed form erases the concept

    @property
    def ended(self) -> str:
        """What has become of a closed form, or why it ended sooner, in words; "" for neither."""
        ...

    @property
    def unsolved(self) -> float:
        """Of the change that a closed form is to make, the share not made; 1 without one."""
        ...

    @property
    def last(self) -> int:
        """The step after which it ends, as far as is known."""
        ...

    def __init__(self, objective: Objective) -> None: ...

    def step(self, step: int) -> tuple[dict[str, float], float]:
        """Changes the LoRA; returns its losses and the largest gradient's norm."""
        ...

    def tensors(self) -> dict[str, Tensor]:
        """All that a step depends on besides the LoRA and the generator; no copies."""
        ...

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes copies of what `tensors` gave; KeyError or ValueError where some are missing."""
        ...


SOLVERS: dict[str, type[Solver]] = {"alternate": Alternate, "budget": Budget, "solve": Solve}
