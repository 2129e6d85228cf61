"""Low-rank adapters on rows of frozen Linears."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import linear

from ..config import EraseConfig
from ..interfaces import FlowModel, LinearSlice


def adapted_layers(model: FlowModel, config: EraseConfig) -> list[str]:
    """Names of the layers that get an adapter: the targets, and the entrance that is solved."""
    entrances = model.entrances if config.solver == "solve" else ()
    return list(dict.fromkeys([*model.target_names(config.lora.targets), *entrances]))


def without_idle(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A LoRA's state without the adapters that do nothing, unless none does anything."""
    names = [key.removesuffix(".alpha") for key in state if key.endswith(".alpha")]
    used = [name for name in names if state[f"{name}.lora_B.weight"].any()] or names
    parts = ("lora_A.weight", "lora_B.weight", "alpha")
    return {f"{name}.{part}": state[f"{name}.{part}"] for name in used for part in parts}


class LoraSet:
    """y[rows] += (alpha / rank) * B A x for each named slice; B = 0 at the start.

    The update is computed in the adapters' dtype (float32) and rounded once, to the dtype of y.
    Base weights are neither read nor written.

    Args:
        slices: canonical name -> rows of a Linear.
        rank: r; A is (r, in_features) and B is (length, r).
        alpha: strength times r; r where it is None.
        generator: CPU generator that A is drawn from, in the order of `slices`.
        init: "kaiming" (uniform within 1 / sqrt(in_features), as peft) or "gaussian" (std 1 / r).
        device: where inputs of these Linears will be; each weight's own where it is None.
    """

    def __init__(
        self,
        slices: Mapping[str, LinearSlice],
        *,
        rank: int,
        alpha: float | None = None,
        generator: torch.Generator,
        init: str = "kaiming",
        device: torch.device | None = None,
    ) -> None:
        if rank < 1 or init not in _INITS:
            raise ValueError(
                f"Got rank {rank} and init {init!r}, expected a rank of at least 1 and one of "
                f"{sorted(_INITS)}. Choose such values."
            )
        self.rank = rank
        self.alpha = float(rank if alpha is None else alpha)
        self._enabled = True
        self._down: dict[str, nn.Parameter] = {}  # A, (r, in)
        self._up: dict[str, nn.Parameter] = {}  # B, (length, r)
        for name, part in slices.items():
            place = device or next(part.module.parameters()).device
            a = _INITS[init](torch.empty(rank, part.in_features), generator)
            self._down[name] = nn.Parameter(a.to(place))
            self._up[name] = nn.Parameter(torch.zeros(part.length, rank, device=place))

    @classmethod
    def from_state(cls, slices: Mapping[str, LinearSlice], state: Mapping[str, Tensor]) -> LoraSet:
        """The set that `state_dict` was taken from; ValueError where the slices are not its own."""
        first = next(iter(slices))
        rank = len(state[f"{first}.lora_A.weight"])
        alpha = state.get(f"{first}.alpha", torch.tensor(float(rank))).item()
        lora = cls(slices, rank=rank, alpha=alpha, generator=torch.Generator())
        lora.load_state_dict(state)
        return lora

    def parameters(self) -> list[nn.Parameter]:
        """A and B of every adapter, in the order of construction."""
        return [each for name in self._down for each in (self._down[name], self._up[name])]

    def to(self, device: torch.device | None = None, dtype: torch.dtype | None = None) -> LoraSet:
        """Moves the parameters in place; do this before an optimizer sees them."""
        for parameter in self.parameters():
            parameter.data = parameter.data.to(device=device, dtype=dtype)
        return self

    def state_dict(self) -> dict[str, Tensor]:
        """CPU copies: `<name>.lora_A.weight`, `<name>.lora_B.weight`, `<name>.alpha`."""
        state: dict[str, Tensor] = {}
        for name in self._down:
            state[f"{name}.lora_A.weight"] = self._down[name].detach().cpu().clone()
            state[f"{name}.lora_B.weight"] = self._up[name].detach().cpu().clone()
            state[f"{name}.alpha"] = torch.tensor(self.alpha)
        return state

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Copies values in; raises ValueError where names, shapes or alpha differ.

        A state without alphas, as other trainers write it, means alpha = rank.
        """
        mine = self.state_dict()
        given = {f"{name}.alpha": torch.tensor(float(self.rank)) for name in self._down} | {**state}
        wrong = sorted(set(mine) ^ set(given))
        for key, one in mine.items():
            other = given.get(key, one)
            if one.shape != other.shape or (one.ndim == 0 and bool(one != other)):  # an alpha
                wrong.append(key)
        if wrong:
            raise ValueError(
                f"Got a state that differs in {wrong[:3]} ({len(wrong)} entries), expected this "
                f"set's {len(mine)}. Build the set with the file's targets, rank and alpha."
            )
        with torch.no_grad():
            for name in self._down:
                self._down[name].copy_(state[f"{name}.lora_A.weight"])
                self._up[name].copy_(state[f"{name}.lora_B.weight"])

    @contextmanager
    def attach(self, slices: Mapping[str, LinearSlice]) -> Iterator[LoraSet]:
        """The adapters act on these Linears for the time of the `with`.

        Raises:
            ValueError: a name is missing, or two slices of one Linear overlap.
        """
        missing = sorted(set(self._down) - set(slices))
        if missing:
            raise ValueError(
                f"Got no slice for {missing[:3]}, expected all {len(self._down)} adapters'. "
                "Ask the backend for the slices of this very set."
            )
        groups: dict[nn.Module, list[tuple[int, int, str]]] = defaultdict(list)
        for name in self._down:
            part = slices[name]
            groups[part.module].append((part.start, part.start + part.length, name))
        hooks = {module: self._hook(sorted(rows)) for module, rows in groups.items()}
        handles = [module.register_forward_hook(hook) for module, hook in hooks.items()]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def disabled(self) -> Iterator[None]:
        """The teacher: attached modules give their own output, bit for bit."""
        before, self._enabled = self._enabled, False
        try:
            yield
        finally:
            self._enabled = before

    def _hook(self, rows: list[tuple[int, int, str]]) -> Any:
        """A forward hook that adds the updates of one Linear's adapters to its output."""
        if any(left[1] > right[0] for left, right in pairwise(rows)):
            raise ValueError(
                f"Got overlapping rows {rows}, expected separate ones. Name each layer once."
            )

        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor | None:
            if not self._enabled:
                return None
            x = inputs[0].to(self._down[rows[0][2]].dtype)  # one copy, which all of them keep
            pieces, end = [], 0
            for start, stop, name in rows:
                pieces += [(start - end, None), (stop - start, name)]
                end = stop
            pieces.append((output.shape[-1] - end, None))
            parts = output.split([length for length, _ in pieces], dim=-1)
            changed = []
            for part, (_, name) in zip(parts, pieces, strict=True):
                if name is not None:
                    update = linear(linear(x, self._down[name]), self._up[name])
                    part = (part + update * (self.alpha / self.rank)).to(part.dtype)
                changed.append(part)
            return torch.cat(changed, dim=-1)

        return hook


def _kaiming(a: Tensor, generator: torch.Generator) -> Tensor:
    bound = 1 / math.sqrt(a.shape[1])
    return a.uniform_(-bound, bound, generator=generator)


def _gaussian(a: Tensor, generator: torch.Generator) -> Tensor:
    return a.normal_(std=1 / a.shape[0], generator=generator)


_INITS = {"kaiming": _kaiming, "gaussian": _gaussian}
