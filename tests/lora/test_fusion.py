"""Fused LoRAs: each acts on its own inputs as alone, as a plain reference does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import torch
from fusion_reference import SIZE, error_on, lora, prompts, reference_fusion, update
from torch import Generator, Tensor, nn

from erase_engine.concepts.plan import ConceptPlan, PromptPair
from erase_engine.interfaces import Conditioning
from erase_engine.lora.fusion import PRIOR, TIMES, fuse, fusion_prompts, fusion_steps
from erase_engine.lora.grams import FusedLayers, InputGrams
from erase_engine.lora.merge import layers_of

IN = 12


def solved(
    parts: Sequence[tuple[Tensor, Tensor]], kept: Tensor, prior: float = PRIOR
) -> dict[int, Tensor]:
    """The new A of each (A, X), by what its own inputs X (tokens, in) and the kept ones say."""
    layers = FusedLayers({(index, "layer"): down for index, (down, _) in enumerate(parts)})
    for index, (_, x) in enumerate(parts):
        layers.add(gram(x), index)
    layers.add(gram(kept), None, prior)
    return {index: down.float() for (index, _), down in layers.solved().items()}


def gram(inputs: Tensor) -> Tensor:
    """(in, in) float64 of (tokens, in)"""
    return inputs.double().T @ inputs.double() / len(inputs)


def test_a_fusion_solves_its_least_squares() -> None:
    """Against torch's own solver on the stacked system."""
    generator = Generator().manual_seed(2)
    downs = [torch.randn(2, IN, generator=generator) for _ in range(2)]
    inputs = [torch.randn(40, IN, generator=generator) for _ in downs]
    ups = [torch.randn(6, 2, generator=generator) for _ in downs]
    kept, prior = torch.randn(40, IN, generator=generator), 0.3
    new = solved(list(zip(downs, inputs, strict=True)), kept, prior)
    wanted = [x @ (b @ a).T for x, a, b in zip(inputs, downs, ups, strict=True)]
    system = torch.cat([*inputs, prior**0.5 * kept])
    expected = torch.linalg.lstsq(system, torch.cat([*wanted, torch.zeros(40, 6)])).solution.T
    change = sum(b @ new[index] for index, b in enumerate(ups))
    torch.testing.assert_close(change, expected, rtol=0, atol=1e-2 * expected.abs().max().item())


def test_on_inputs_apart_each_acts_as_alone_and_nothing_else_moves() -> None:
    basis = torch.eye(IN).split(4)
    downs = [torch.randn(2, IN, generator=Generator().manual_seed(seed)) for seed in (0, 1)]
    new = solved(list(zip(downs, basis, strict=False)), basis[2])
    for index, (x, down) in enumerate(zip(basis, downs, strict=False)):
        torch.testing.assert_close(x @ new[index].T, x @ down.T, rtol=0, atol=5e-3)
        torch.testing.assert_close(x @ new[1 - index].T, torch.zeros(4, 2), rtol=0, atol=1e-3)
        assert (basis[2] @ new[index].T).abs().max() < 1e-3
        assert (basis[2] @ down.T).abs().max() > 0.5  # what a sum does to them


@pytest.mark.parametrize("lengths", [(6,), (6, 3)], ids=["one_length", "two_lengths"])
@pytest.mark.parametrize("strengths", [[1.0, 1.0, 1.0], [0.5, -1.0, 2.0]])
def test_a_fusion_is_the_plain_reference(small_flow, strengths, lengths) -> None:
    """Of LoRAs with other layers and ranks, and where inputs leave directions unseen."""
    targets = ("text_qk", "dual_qk" if len(lengths) == 1 else "text_qk", "text_qk")
    states = [lora(small_flow, target, seed, 2 + seed) for seed, target in enumerate(targets)]
    conds = [prompts(count, seed, lengths) for seed, count in enumerate((9, 20, 12, 30))]
    if len(lengths) > 1:
        conds = [Conditioning.cat(part for _, part in cond.by_length()) for cond in conds]
        small_flow = Lengths(small_flow)
    merged = fuse(states, strengths, conds, backend=small_flow, latent_size=SIZE)
    expected = reference_fusion(small_flow, states, strengths, conds)
    assert layers_of([merged]) == [*expected]
    for name, exact in expected.items():
        assert error_on(torch.eye(8), update(merged, name), exact) < 1e-5, name
    assert not any(module._forward_pre_hooks for module in small_flow.layers)


class Lengths:
    """A flow that makes a pass for each length of the texts, as a backend does."""

    def __init__(self, flow: Any) -> None:
        self._flow = flow

    def __getattr__(self, name: str) -> Any:
        return getattr(self._flow, name)

    def velocity(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        out = torch.empty_like(x_t)
        for rows, part in cond.by_length():
            out[rows] = self._flow.velocity(x_t[rows], t[rows], part)
        return out


def test_float32_sums_of_many_tokens_are_as_good_as_float64() -> None:
    """In the language of text features: one channel is a hundred times as large as the others.

    73,728 tokens are 48 prompts of 512 tokens at three times.
    """
    generator = Generator().manual_seed(0)
    scale = torch.rand(64, generator=generator) + 0.5
    scale[7] = 100.0
    mix = torch.randn(64, 64, generator=generator)
    batches = [torch.randn(4096, 64, generator=generator) @ mix * scale for _ in range(18)]
    down, module = torch.randn(8, 64, generator=generator), nn.Linear(64, 64)
    grams = InputGrams([module])
    with grams.watching(), torch.no_grad():
        for x in batches:
            module(x)
    ((_, summed),) = grams.taken()
    exact = gram(torch.cat(batches))
    found, wanted = (a_new(down, each) for each in (summed.double(), exact))
    assert error_on(exact, found, wanted) < 1e-6
    assert error_on(torch.eye(64), found, wanted) < 1e-4  # in directions that hardly occur, too


def a_new(down: Tensor, gram: Tensor) -> Tensor:
    layers = FusedLayers({(0, "layer"): down})
    layers.add(gram, 0)
    return layers.solved()[0, "layer"]


# --- steps, cancel, errors -----------------------------------------------------------------------


def test_it_counts_its_steps_and_a_cancel_leaves_nothing_behind(small_flow) -> None:
    states = [lora(small_flow, "text_qk", 0), lora(small_flow, "dual_qk", 1)]
    conds = [prompts(9, 0), prompts(8, 1), prompts(3, 2)]
    steps: list[int] = []
    fuse(
        *(states, [1.0, 1.0], conds),
        **{"backend": small_flow, "latent_size": SIZE, "on_step": lambda: steps.append(1)},
    )
    assert len(steps) == fusion_steps(states, conds) == 4 * TIMES + 8

    def cancel() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        fuse(
            *(states, [1.0, 1.0], conds),
            **{"backend": small_flow, "latent_size": SIZE, "on_step": cancel},
        )
    assert not any(module._forward_pre_hooks for module in small_flow.layers)


def test_another_models_lora_is_named_before_any_pass(small_flow) -> None:
    states = [lora(small_flow, "text_qk", 0), lora(small_flow, "text_qk", 1)]
    name = small_flow.target_names("text_qk")[0]
    states[1][f"{name}.lora_A.weight"] = torch.zeros(2, 9)
    conds = [prompts(1, 0)] * 3
    with pytest.raises(
        ValueError, match=r"Got LoRA 2 with \(9, 8\) numbers in and out of .*q_proj"
    ):
        fuse(states, [1.0, 1.0], conds, backend=small_flow, latent_size=SIZE)
    assert small_flow.samples == 0


# --- prompts -------------------------------------------------------------------------------------


def plan(concept: str, prompts: Sequence[str], keep: Sequence[str]) -> ConceptPlan:
    pairs = tuple(
        PromptPair(prompt, prompt.replace(concept, "dog"), concept, (1,), "a {c}")
        for prompt in prompts
    )
    return ConceptPlan(
        concept=concept,
        kind="object",
        anchor="dog",
        synonyms=(),
        irrelevant=(),
        keep=tuple(keep),
        pairs=pairs,
    )


def test_prompts_of_two_loras_at_once_say_nothing_of_either() -> None:
    """Unless a LoRA has no others."""
    star = plan("star", ["a red star", "a star"], ["a ring", "a red ring"])
    red = plan("red", ["a red cat"], ["a ring", "a blue star"])
    both = plan("cat", ["a red cat"], ["a ring"])
    assert fusion_prompts([[star], [red]]) == [["a star"], ["a red cat"], ["a ring"]]
    assert fusion_prompts([[both], [red]])[:2] == [["a red cat"], ["a red cat"]]
