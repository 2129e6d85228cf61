"""What the inputs of Linears add up to, while prompts pass through a model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from ..interfaces import Conditioning

RIDGE = 1e-4  # share of M's mean diagonal: directions that no prompt has seen stay as they are
Key = tuple[int, str]  # number of a LoRA, layer
Look = Callable[[nn.Module, Tensor], None]


class InputSums:
    """M, but for the ridge, and the A_i G_i of layers that read one input and have the same LoRAs.

    Args:
        downs: the A_i, (r, in), by number of the LoRA and layer.
        device: where the inputs will be.
    """

    def __init__(self, downs: Mapping[Key, Tensor], device: torch.device) -> None:
        width = next(iter(downs.values())).shape[1]
        self.loras = {lora for lora, _ in downs}
        self.layers = {layer for _, layer in downs}
        self._downs = {key: down.to(device) for key, down in downs.items()}
        self._projected = {key: torch.zeros_like(down) for key, down in self._downs.items()}
        self._total = torch.zeros(width, width, device=device)

    def add(self, x: Tensor, lora: int | None, weight: float) -> None:
        """x (..., in) is what a prompt of this LoRA sends; None is for prompts to be kept."""
        if lora is not None and lora not in self.loras:
            return
        x = x.flatten(0, -2).float()
        gram = weight * (x.T @ x)
        self._total += gram
        for key, down in self._downs.items():
            if key[0] == lora:
                self._projected[key] += down @ gram

    def solved(self) -> dict[Key, Tensor]:
        """The A_i G_i M^-1, in float64 on the CPU: some devices have no float64."""
        total = self._total.cpu().double()
        total.diagonal().add_(RIDGE * total.diagonal().mean())
        rows = torch.cat(list(self._projected.values())).cpu().double()
        solution = torch.linalg.solve(total, rows.T).T
        ranks = [len(one) for one in self._projected.values()]
        return dict(zip(self._projected, solution.split(ranks), strict=True))


@dataclass
class Survey:
    """What one prompt of each length shows of the Linears, before their inputs are summed.

    `first` is, for each Linear, the first one that is given the very same tensor.
    """

    tokens: dict[int, Counter[nn.Module]] = field(default_factory=dict)  # by length of the text
    first: dict[nn.Module, nn.Module] = field(default_factory=dict)
    devices: dict[nn.Module, torch.device] = field(default_factory=dict)  # of the inputs

    def counting(self, length: int) -> Look:
        """To look with at a prompt of this length: Linears that share an input run in a row."""
        tokens = self.tokens[length] = Counter()
        last: list[tuple[nn.Module, Tensor]] = []

        def look(module: nn.Module, x: Tensor) -> None:
            shared = bool(last) and last[0][1] is x
            self.first.setdefault(module, self.first[last[0][0]] if shared else module)
            self.devices[module] = x.device
            tokens[module] += x.shape[:-1].numel()
            last[:] = [(module, x)]

        return look

    def tokens_of(self, cond: Conditioning) -> Counter[nn.Module]:
        """Rows of each Linear's inputs when each of these prompts passes once."""
        total: Counter[nn.Module] = Counter()
        for prompt in cond.prompts:
            total.update(self.tokens[len(prompt.text)])
        return total


@contextmanager
def watched(modules: Iterable[nn.Module], look: Look) -> Iterator[None]:
    """`look` sees the input of each call of these Linears."""
    handles = [
        module.register_forward_pre_hook(lambda module, given: look(module, given[0]))
        for module in modules
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
