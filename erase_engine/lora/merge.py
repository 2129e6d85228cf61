"""Erasures trained apart, in one LoRA: their weighted sum, or fused in closed form.

Both are exact in the low-rank form: the merged rank is the sum of the ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor

from ..concepts.grammar import contains
from ..concepts.plan import ConceptPlan
from ..interfaces import Conditioning, FlowModel, LinearSlice, TextEncoder
from ..sampling import start_noise

State = Mapping[str, Tensor]  # as `LoraSet.state_dict`
Grams = dict[str, Tensor]  # layer -> X^T X of its inputs, (in, in), over the number of tokens
# Share of a Gram matrix's mean diagonal: directions that no prompt has seen stay as they are.
RIDGE = 1e-4
PRIOR = 0.05  # what is to be kept counts beside the concepts; more of it lets colours come back
_DOWN, _UP, _ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
PROMPTS = 48  # of each plan that are looked at, and as many of those to keep
PASSES, AT_ONCE = 4, 8  # times at which inputs are looked at, and prompts in one pass


@dataclass(frozen=True)
class _Adapter:
    down: Tensor  # (r, in)
    up: Tensor  # (out, r), strength and alpha / r inside


def weighted_sum(states: Sequence[State], strengths: Sequence[float]) -> dict[str, Tensor]:
    """dW = sum_i s_i dW_i for each layer; a layer that one LoRA lacks is the others' sum."""
    return _state(
        {layer: [one for _, one in parts] for layer, parts in _layers(states, strengths).items()}
    )


def fused(
    states: Sequence[State],
    strengths: Sequence[float],
    inputs: Sequence[Grams],
    kept: Grams,
    *,
    prior: float = PRIOR,
) -> dict[str, Tensor]:
    """Each LoRA acts on its own concept's inputs as alone, and on what is to be kept not at all.

        minimise over dW:  sum_i |dW X_i - s_i dW_i X_i|^2 + prior |dW X_p|^2
        dW = (sum_i s_i dW_i G_i) (sum_i G_i + prior G_p + ridge)^-1,   G = X X^T

    for each layer. With dW_i = B_i A_i that is [B_1 .. B_N] [A_1 G_1; ..; A_N G_N] M^-1: only the
    A's change. Source: MACE (arXiv 2403.06135), section 3.3.

    Args:
        inputs: what each LoRA's concept prompts send into each layer.
        kept: the same for prompts that must not change.
    """
    merged = {}
    for layer, parts in _layers(states, strengths).items():
        own = {index: inputs[index][layer].double() for index, _ in parts}
        total = sum(own.values()) + prior * kept[layer].double()
        total += RIDGE * total.diagonal().mean() * torch.eye(len(total), dtype=total.dtype)
        merged[layer] = [
            _Adapter(torch.linalg.solve(total, own[index] @ one.down.double().T).T, one.up)
            for index, one in parts
        ]
    return _state(merged)


def fused_by_prompts(
    states: Sequence[State],
    strengths: Sequence[float],
    plans: Sequence[Sequence[ConceptPlan]],
    *,
    backend: FlowModel,
    encoder: TextEncoder,
    latent_size: tuple[int, int],
) -> dict[str, Tensor]:
    """`fused` on the prompts that each LoRA was trained with; `plans` holds those of each.

    Kept is what none of them erases.
    """
    layers = layers_of(states)

    def grams(prompts: Sequence[str]) -> Grams:
        cond = encoder.encode(prompts)
        noise = start_noise(len(cond), backend.latent_channels, latent_size, seed=0)
        return input_grams(backend, layers, cond, noise)

    own = [grams(_own(plans, index)) for index in range(len(plans))]
    return fused(states, strengths, own, grams(_kept(plans)))


def _own(plans: Sequence[Sequence[ConceptPlan]], index: int) -> list[str]:
    """Prompts with what one LoRA erases, and with nothing that another does.

    A prompt with both would ask for the one's effect alone, and so undo the other's.
    """
    others = _wordings([*plans[:index], *plans[index + 1 :]])
    prompts = []
    for plan in plans[index]:
        every = [pair.concept_prompt for pair in plan.pairs]
        alone = [prompt for prompt in every if not contains(prompt, others)]
        prompts += (alone or every)[:PROMPTS]
    return prompts


def _kept(plans: Sequence[Sequence[ConceptPlan]]) -> list[str]:
    """Prompts that none of the LoRAs may change."""
    wordings = _wordings(plans)
    prompts = dict.fromkeys(
        prompt for some in plans for plan in some for prompt in plan.keep[:PROMPTS]
    )
    return [prompt for prompt in prompts if not contains(prompt, wordings)]


def _wordings(plans: Sequence[Sequence[ConceptPlan]]) -> list[str]:
    """All that these LoRAs erase, as prompts may call it."""
    return [word for some in plans for plan in some for word in plan.wordings]


@torch.no_grad()
def input_grams(
    backend: FlowModel, layers: Sequence[str], cond: Conditioning, noise: Tensor
) -> Grams:
    """X^T X / tokens of what prompts send into these layers of the base model.

    Args:
        cond: N prompts.
        noise: (N, C, h, w); it stands for the picture at every time, since the text's own part of
            a layer's input hardly depends on it.
    """
    slices = backend.linear_slices(layers)
    times = backend.timesteps(PASSES, *noise.shape[-2:])[:-1]
    with _watched(slices) as sums:
        for rows in torch.arange(len(cond)).split(AT_ONCE):
            for t in times:
                backend.velocity(noise[rows], t.expand(len(rows)), cond.take(rows))
    return {name: total / count for name, (total, count) in sums.items()}


@contextmanager
def _watched(slices: Mapping[str, LinearSlice]) -> Iterator[dict[str, tuple[Tensor, int]]]:
    """Sums of x^T x of each layer's inputs, and the tokens in them, while the `with` lasts."""
    sums: dict[str, tuple[Tensor, int]] = {}
    modules = {part.module for part in slices.values()}
    names = {module: [n for n, one in slices.items() if one.module is module] for module in modules}

    def look(module: torch.nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0].flatten(0, -2).float()
        gram = (x.T @ x).cpu()
        for name in names[module]:
            total, count = sums.get(name, (torch.zeros_like(gram), 0))
            sums[name] = total + gram, count + len(x)

    handles = [module.register_forward_pre_hook(look) for module in modules]
    try:
        yield sums
    finally:
        for handle in handles:
            handle.remove()


def layers_of(states: Sequence[State]) -> list[str]:
    """Every layer that one of the LoRAs has, in order."""
    keys = (key for state in states for key in state if key.endswith(_DOWN))
    return list(dict.fromkeys(key.removesuffix(_DOWN) for key in keys))


def _layers(
    states: Sequence[State], strengths: Sequence[float]
) -> dict[str, list[tuple[int, _Adapter]]]:
    """layer -> the LoRAs that have it, by number."""
    found: dict[str, list[tuple[int, _Adapter]]] = {layer: [] for layer in layers_of(states)}
    for index, (state, strength) in enumerate(zip(states, strengths, strict=True)):
        for layer, parts in found.items():
            down = state.get(layer + _DOWN)
            if down is not None:
                alpha = state.get(layer + _ALPHA, torch.tensor(float(len(down))))
                factor = strength * alpha.item() / len(down)
                up = state[layer + _UP].float() * factor
                parts.append((index, _Adapter(down.float(), up)))
    return found


def _state(merged: Mapping[str, Sequence[_Adapter]]) -> dict[str, Tensor]:
    """Concatenated adapters; alpha is the rank, so that they count as they are."""
    state: dict[str, Tensor] = {}
    for layer, adapters in merged.items():
        down = torch.cat([one.down.float() for one in adapters])
        state[layer + _DOWN] = down
        state[layer + _UP] = torch.cat([one.up for one in adapters], dim=1)
        state[layer + _ALPHA] = torch.tensor(float(len(down)))
    return state
