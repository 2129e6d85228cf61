"""Gram matrices G = X X^T / n of what enters Linears, and what a fusion keeps of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

RIDGE = 1e-4  # share of M's mean diagonal: directions that no prompt has seen stay as they are
Key = tuple[int, str]  # number of a LoRA, layer


class InputGrams:
    """Sums of x x^T over the tokens x of Linears' inputs, in float32, where the inputs are.

    Linears that are given one tensor, such as q, k and v, share a sum: `first` names, for each
    Linear, the one that has it.
    """

    def __init__(self, modules: Iterable[nn.Module]) -> None:
        self.first: dict[nn.Module, nn.Module] = {}
        self._modules = list(modules)
        self._sums: dict[nn.Module, Tensor] = {}
        self._tokens: Counter[nn.Module] = Counter()
        self._last: tuple[nn.Module, Tensor] | None = None

    @contextmanager
    def watching(self) -> Iterator[None]:
        """What passes through the model meanwhile is summed."""
        handles = [module.register_forward_pre_hook(self._look) for module in self._modules]
        try:
            yield
        finally:
            self._last = None
            for handle in handles:
                handle.remove()

    def taken(self) -> Iterator[tuple[nn.Module, Tensor]]:
        """Each sum over its number of tokens, (in, in); it begins anew."""
        while self._sums:
            module, total = self._sums.popitem()
            yield module, total / self._tokens.pop(module)

    def _look(self, module: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0]
        if module not in self.first:
            shared = self._last is not None and self._last[1] is x
            self.first[module] = self.first[self._last[0]] if shared and self._last else module
        self._last = (module, x)
        if self.first[module] is not module:
            return
        x = x.flatten(0, -2).float()
        gram = x.T @ x
        self._sums[module] = self._sums[module].add_(gram) if module in self._sums else gram
        self._tokens[module] += len(x)


class FusedLayers:
    """M, but for the ridge, and the A_i G_i of layers that read one input and have the same LoRAs.

    Args:
        downs: the A_i, (r, in), by number of the LoRA and layer.
    """

    def __init__(self, downs: Mapping[Key, Tensor]) -> None:
        width = next(iter(downs.values())).shape[1]
        self.layers = {layer for _, layer in downs}
        self._loras = {lora for lora, _ in downs}
        self._downs = downs
        self._projected: dict[Key, Tensor] = {}
        self._total = torch.zeros(width, width, dtype=torch.float64)

    def add(self, gram: Tensor, lora: int | None, weight: float = 1.0) -> None:
        """The float64 Gram matrix of this LoRA's own prompts; None: of prompts to be kept."""
        if lora is not None and lora not in self._loras:
            return
        self._total.add_(gram, alpha=weight)
        for key, down in self._downs.items():
            if key[0] == lora:
                self._projected[key] = down.cpu().double() @ gram

    def solved(self) -> dict[Key, Tensor]:
        """The A_i G_i M^-1, in float64."""
        total = self._total.clone()
        total.diagonal().add_(RIDGE * total.diagonal().mean())
        solution = torch.linalg.solve(total, torch.cat(list(self._projected.values())).T).T
        ranks = [len(one) for one in self._projected.values()]
        return dict(zip(self._projected, solution.split(ranks), strict=True))
