"""A fusion written out plainly: a Gram matrix of every layer for every LoRA; and its inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from erase_engine.interfaces import Conditioning, Prompt
from erase_engine.lora import fusion
from erase_engine.lora.fusion import AT_ONCE, PRIOR, TIMES
from erase_engine.lora.grams import RIDGE

State = dict[str, Tensor]
SIZE = (4, 4)  # of latents


def reference_fusion(
    flow: Any, states: Sequence[State], strengths: Sequence[float], conds: Sequence[Conditioning]
) -> State:
    """(sum_i s_i B_i A_i G_i) (sum_i G_i + prior G_p + ridge)^-1 for each layer, in full."""
    names = list(dict.fromkeys(key.split(".lora_")[0] for state in states for key in state))
    names = [name.removesuffix(".alpha") for name in names if not name.endswith(".alpha")]
    *own, kept = [reference_grams(flow, names, cond) for cond in conds]
    return {name: _reference_layer(name, states, strengths, own, kept) for name in names}


def _reference_layer(
    name: str, states: Sequence[State], strengths: Sequence[float], own: Any, kept: Any
) -> Tensor:
    wanted, total = 0, PRIOR * kept[name].double()
    for state, strength, gram in zip(states, strengths, own, strict=True):
        if f"{name}.lora_A.weight" in state:
            wanted = wanted + strength * update(state, name).double() @ gram[name].double()
            total = total + gram[name].double()
    total += RIDGE * total.diagonal().mean() * torch.eye(len(total)).double()
    return torch.linalg.solve(total, wanted.T).T


def error_on(gram: Tensor, found: Tensor, exact: Tensor) -> float:
    """|(dW - exact) X| / |exact X| for inputs with this Gram matrix X X^T."""
    values, vectors = torch.linalg.eigh(gram.double())
    x = vectors * values.clamp(min=0).sqrt()
    return float(((found - exact) @ x).norm() / (exact @ x).norm())


def reference_grams(
    flow: Any,
    names: Sequence[str],
    cond: Conditioning,
    to_host: Callable[[Tensor], Tensor] = lambda gram: gram,
) -> dict[str, Tensor]:
    """X^T X / tokens of each layer's inputs; each Linear's are taken to the host in each pass."""
    sums: dict[str, tuple[Tensor, int]] = {}
    slices = flow.linear_slices(names)
    by_module: dict[nn.Module, list[str]] = {}
    for name, part in slices.items():
        by_module.setdefault(part.module, []).append(name)

    def look(module: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0].flatten(0, -2).float()
        gram = to_host(x.T @ x)
        for name in by_module[module]:
            total, count = sums.get(name, (torch.zeros_like(gram), 0))
            sums[name] = total + gram, count + len(x)

    handles = [module.register_forward_pre_hook(look) for module in by_module]
    noise = fusion.start_noise(len(cond), (flow.latents.channels, *SIZE), seed=0)
    for rows in (list(range(len(cond)))[i : i + AT_ONCE] for i in range(0, len(cond), AT_ONCE)):
        for t in flow.timesteps(TIMES, *SIZE)[:-1]:
            flow.velocity(noise[rows], t.expand(len(rows)), cond.take(rows))
    for handle in handles:
        handle.remove()
    return {name: total / count for name, (total, count) in sums.items()}


def update(state: Mapping[str, Tensor], layer: str) -> Tensor:
    """dW, (out, in)"""
    down, up = state[f"{layer}.lora_A.weight"], state[f"{layer}.lora_B.weight"]
    return state[f"{layer}.alpha"] / len(down) * up @ down


def lora(flow: Any, target: str, seed: int, rank: int = 2) -> State:
    """A random LoRA of a flow's layers."""
    generator = Generator().manual_seed(seed)
    state: State = {}
    for name, part in flow.linear_slices(flow.target_names(target)).items():
        state[f"{name}.lora_A.weight"] = torch.randn(rank, part.in_features, generator=generator)
        state[f"{name}.lora_B.weight"] = torch.randn(part.length, rank, generator=generator)
        state[f"{name}.alpha"] = torch.tensor(rank / 2)
    return state


def prompts(count: int, seed: int, lengths: Sequence[int] = (6,), width: int = 8) -> Conditioning:
    """Random ones, whose lengths take turns."""
    generator = Generator().manual_seed(seed)
    sizes = ((lengths[i % len(lengths)], width) for i in range(count))
    rows = [torch.randn(size, generator=generator, device="cpu") for size in sizes]
    return Conditioning(tuple(Prompt(text, torch.zeros_like(text[0])) for text in rows))
