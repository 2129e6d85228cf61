"""LoRAs fused in closed form: each acts on its own concept's prompts as alone, on no others.

For one layer, with dW_i = B_i A_i the update of LoRA i (strength inside), X_i (in, n_i) what its
concept's prompts send into the layer, X_p (in, n_p) what the prompts that are to be kept send:

    minimise over dW:  sum_i |dW X_i - dW_i X_i|^2 / n_i + prior |dW X_p|^2 / n_p

    dW = [B_1 .. B_N] [A_1 G_1; ..; A_N G_N] M^-1,   G = X X^T / n,
    M = sum_i G_i + prior G_p + ridge

so that only the A's change. Source: MACE (arXiv 2403.06135), section 3.3.

While the prompts of one LoRA pass, X X^T is summed in float32 where the inputs are, and nothing is
moved. After them it is added, on the CPU, to M in float64, and A_i G_i, (r, in), is kept of it. One
M serves all layers that read one input, such as q, k and v.

Float32 is enough: rounding changes an entry of G by about 1e-7, a thousandth of the ridge; A_i G_i
and M are of the same rounded G, so that most of it cancels.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from ..concepts.grammar import contains
from ..concepts.plan import ConceptPlan
from ..interfaces import Conditioning, FlowModel, LinearSlice
from ..sampling import start_noise
from .grams import FusedLayers, InputGrams, Key
from .merge import Adapter, State, adapters_by_layer, layers_of, merged_state

PRIOR = 0.05  # what is to be kept counts beside the concepts; more of it lets colours come back
PROMPTS = 48  # of each plan that are looked at, and as many of those to keep
TIMES, AT_ONCE = 4, 8  # times at which inputs are looked at, and prompts in one pass


# --- prompts -------------------------------------------------------------------------------------


def fusion_prompts(plans: Sequence[Sequence[ConceptPlan]]) -> list[list[str]]:
    """The prompts of each LoRA's concepts, then those to be kept; `plans` holds those of each."""
    return [*(_own(plans, index) for index in range(len(plans))), _kept(plans)]


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


# --- the fusion ----------------------------------------------------------------------------------


@torch.no_grad()
def fuse(
    states: Sequence[State],
    strengths: Sequence[float],
    conds: Sequence[Conditioning],
    *,
    backend: FlowModel,
    latent_size: tuple[int, int],
    on_step: Callable[[], None] = lambda: None,
) -> dict[str, Tensor]:
    """One LoRA out of several; the formula stands above.

    Args:
        conds: each LoRA's own prompts, then those to be kept, as `fusion_prompts` orders them.
        latent_size: of the noise that stands for the picture at every time; the text's own part
            of a layer's input hardly depends on it.
        on_step: called `fusion_steps` times; may raise to cancel.

    Raises:
        ValueError: the model has no such layer, or one of another size.
    """
    layers = adapters_by_layer(states, strengths)
    slices = backend.linear_slices(layers)
    _check_sizes(layers, slices)
    grams = InputGrams({part.module for part in slices.values()})
    fused: dict[nn.Module, list[FusedLayers]] = {}
    for lora, cond in zip([*range(len(states)), None], conds, strict=True):
        with grams.watching():
            for _ in _passes(backend, cond, latent_size):
                on_step()
        fused = fused or _fused_layers(layers, slices, grams.first)
        for module, gram in grams.taken():
            exact = gram.cpu().double()
            for each in fused[module]:
                each.add(exact, lora, PRIOR if lora is None else 1.0)
    downs = _solved(fused, on_step)
    return merged_state(
        {
            layer: [replace(one, down=downs[one.lora, layer]) for one in adapters]
            for layer, adapters in layers.items()
        }
    )


def fusion_steps(states: Sequence[State], conds: Sequence[Conditioning]) -> int:
    """How often `fuse` calls `on_step`: after each pass, and for each layer that is solved."""
    return sum(TIMES for cond in conds for _ in _batches(cond)) + len(layers_of(states))


@dataclass(frozen=True)
class FusionMemory:
    """Bytes that `fuse` keeps from pass to pass."""

    device: int  # where the model computes: a Gram matrix of each input
    host: int  # M of each input, and A G of each adapter


def fusion_memory(states: Sequence[State], slices: Mapping[str, LinearSlice]) -> FusionMemory:
    """What `fuse` will need, at the most: Linears that are given one tensor share their matrices.

    Raises:
        ValueError: a layer of the model has another size than a LoRA's.
    """
    layers = adapters_by_layer(states, [1.0] * len(states))
    _check_sizes(layers, slices)
    widths = {part.module: part.in_features for part in slices.values()}
    totals = {(part.module, _loras(layers[name])): part for name, part in slices.items()}
    adapters = [one for several in layers.values() for one in several]
    host = sum(part.in_features**2 for part in totals.values())
    host += sum(one.down.numel() for one in adapters)
    return FusionMemory(4 * sum(width**2 for width in widths.values()), 8 * host)


def _fused_layers(
    layers: Mapping[str, Sequence[Adapter]],
    slices: Mapping[str, LinearSlice],
    first: Mapping[nn.Module, nn.Module],
) -> dict[nn.Module, list[FusedLayers]]:
    """By the Linear that has the Gram matrix of their input."""
    grouped: dict[tuple[nn.Module, tuple[int, ...]], dict[Key, Tensor]] = defaultdict(dict)
    for name, part in slices.items():
        downs = {(one.lora, name): one.down for one in layers[name]}
        grouped[first[part.module], _loras(layers[name])] |= downs
    fused: dict[nn.Module, list[FusedLayers]] = defaultdict(list)
    for (module, _), downs in grouped.items():
        fused[module].append(FusedLayers(downs))
    return fused


def _loras(adapters: Sequence[Adapter]) -> tuple[int, ...]:
    return tuple(one.lora for one in adapters)


def _solved(
    fused: dict[nn.Module, list[FusedLayers]], on_step: Callable[[], None]
) -> dict[Key, Tensor]:
    """The new A of every adapter; empties `fused`, so that memory is given back on the way."""
    downs: dict[Key, Tensor] = {}
    while fused:
        for each in fused.popitem()[1]:
            downs |= each.solved()
            for _ in each.layers:
                on_step()
    return downs


def _check_sizes(
    layers: Mapping[str, Sequence[Adapter]], slices: Mapping[str, LinearSlice]
) -> None:
    """Raises ValueError where an adapter is not as wide as the model's layer."""
    for name, part in slices.items():
        for one in layers[name]:
            sizes = one.down.shape[1], one.up.shape[0]
            if sizes != (part.in_features, part.length):
                raise ValueError(
                    f"Got LoRA {one.lora + 1} with {sizes} numbers in and out of {name}, expected "
                    f"{(part.in_features, part.length)}. Leave out what another model's LoRA is."
                )


def _passes(backend: FlowModel, cond: Conditioning, latent_size: tuple[int, int]) -> Iterator[None]:
    """Each prompt goes through the model at each time."""
    noise = start_noise(len(cond), (backend.latents.channels, *latent_size), seed=0)
    times = backend.timesteps(TIMES, *latent_size)[:-1]
    for rows in _batches(cond):
        for t in times:
            backend.velocity(noise[rows], t.expand(len(rows)), cond.take(rows))
            yield


def _batches(cond: Conditioning) -> Iterator[list[int]]:
    """Rows whose prompts have one length, so many at once as a pass takes."""
    for rows, _ in cond.by_length():
        yield from (rows[i : i + AT_ONCE] for i in range(0, len(rows), AT_ONCE))
