"""LoRAs trained apart, in one: their weighted sum, exact in the low-rank form.

The merged rank is the sum of the ranks. `fusion` makes one whose parts keep to their own prompts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import pad

from ..interfaces import LinearSlice
from .dialects import ALPHA, DOWN, UP

State = Mapping[str, Tensor]  # as `LoraSet.state_dict`


@dataclass(frozen=True)
class Adapter:
    """One LoRA's update of one layer, dW = up @ down."""

    lora: int  # its number
    down: Tensor  # (r, in)
    up: Tensor  # (out, r), strength and alpha / r inside


def weighted_sum(states: Sequence[State], strengths: Sequence[float]) -> dict[str, Tensor]:
    """dW = sum_i s_i dW_i for each layer; a layer that one LoRA lacks is the others' sum."""
    return merged_state(adapters_by_layer(states, strengths))


def check_same_sizes(states: Mapping[str, State]) -> None:
    """ValueError, naming both, where two of these LoRAs by name have one layer in two sizes."""
    first: dict[str, tuple[str, tuple[int, int]]] = {}
    for name, state in states.items():
        for layer in layers_of([state]):
            size = state[layer + DOWN].shape[1], len(state[layer + UP])
            other, expected = first.setdefault(layer, (name, size))
            if size != expected:
                raise ValueError(
                    f"Got {name} with {size} numbers in and out of {layer}, expected {expected} as "
                    f"in {other}. Merge only LoRAs that were trained for the same model."
                )


def layers_of(states: Sequence[State]) -> list[str]:
    """Every layer that one of the LoRAs has, in order."""
    keys = (key for state in states for key in state if key.endswith(DOWN))
    return list(dict.fromkeys(key.removesuffix(DOWN) for key in keys))


def adapters_by_layer(
    states: Sequence[State], strengths: Sequence[float]
) -> dict[str, list[Adapter]]:
    """layer -> the updates of the LoRAs that have it, in float32."""
    found: dict[str, list[Adapter]] = {layer: [] for layer in layers_of(states)}
    for index, (state, strength) in enumerate(zip(states, strengths, strict=True)):
        for layer, adapters in found.items():
            down = state.get(layer + DOWN)
            if down is not None:
                alpha = state.get(layer + ALPHA, torch.tensor(float(len(down))))
                factor = strength * alpha.item() / len(down)
                up = state[layer + UP].float() * factor
                adapters.append(Adapter(index, down.float(), up))
    return found


def in_whole_layers(
    state: State, slices: Mapping[str, LinearSlice], names: Mapping[nn.Module, str]
) -> dict[str, Tensor]:
    """The same LoRA for whole Linears: what is for some rows of one stands under its own name.

    Its other rows are zero, and its rank is the sum of those of its parts.

    Args:
        slices: the rows that each layer's name means.
        names: of Linears, as the model's own loader calls them.
    """
    found: dict[str, list[Adapter]] = {}
    for layer, adapters in adapters_by_layer([state], [1.0]).items():
        rows = slices[layer]
        behind = rows.module.get_parameter("weight").shape[0] - rows.start - rows.length
        name = names[rows.module] if rows.start or behind else layer
        whole = [replace(each, up=pad(each.up, (0, 0, rows.start, behind))) for each in adapters]
        found.setdefault(name, []).extend(whole)
    return merged_state(found)


def merged_state(layers: Mapping[str, Sequence[Adapter]]) -> dict[str, Tensor]:
    """Concatenated adapters; alpha is the rank, so that they count as they are."""
    state: dict[str, Tensor] = {}
    for layer, adapters in layers.items():
        down = torch.cat([one.down.float() for one in adapters])
        state[layer + DOWN] = down
        state[layer + UP] = torch.cat([one.up for one in adapters], dim=1)
        state[layer + ALPHA] = torch.tensor(float(len(down)))
    return state
