"""Merged LoRAs: a sum acts as all of them at once, a fusion as each one on its own inputs."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch
from torch import Generator, Tensor

from erase_engine.concepts.plan import ConceptPlan, PromptPair
from erase_engine.families.flux import FLUX
from erase_engine.interfaces import Conditioning
from erase_engine.lora.adapters import LoraSet
from erase_engine.lora.merge import fused, fused_by_prompts, input_grams, layers_of, weighted_sum

OUT, IN, LAYER = 6, 12, "transformer_blocks.0.attn.add_q_proj"


def adapter(seed: int, rank: int = 2, alpha: float = 4.0, layer: str = LAYER) -> dict[str, Tensor]:
    generator = Generator().manual_seed(seed)
    return {
        f"{layer}.lora_A.weight": torch.randn(rank, IN, generator=generator),
        f"{layer}.lora_B.weight": torch.randn(OUT, rank, generator=generator),
        f"{layer}.alpha": torch.tensor(alpha),
    }


def update(state: dict[str, Tensor], layer: str = LAYER) -> Tensor:
    """dW, (out, in)"""
    down, up = state[f"{layer}.lora_A.weight"], state[f"{layer}.lora_B.weight"]
    return state[f"{layer}.alpha"] / len(down) * up @ down


def gram(inputs: Tensor) -> Tensor:
    """(in, in) of (tokens, in)"""
    return inputs.T @ inputs / len(inputs)


def test_a_sum_is_the_sum_of_the_updates() -> None:
    one, other = adapter(0), adapter(1, rank=3, alpha=3.0)
    merged = weighted_sum([one, other], [1.0, -0.5])
    torch.testing.assert_close(update(merged), update(one) - 0.5 * update(other))
    assert len(merged[f"{LAYER}.lora_A.weight"]) == 5


def test_a_layer_of_one_alone_stays_its_own() -> None:
    elsewhere = LAYER.replace("0", "1")
    merged = weighted_sum([adapter(0), adapter(1, layer=elsewhere)], [1.0, 1.0])
    assert layers_of([merged]) == [LAYER, elsewhere]
    torch.testing.assert_close(update(merged, elsewhere), update(adapter(1)))


def test_a_fusion_solves_its_least_squares() -> None:
    """Against torch's own solver on the stacked system."""
    generator = Generator().manual_seed(2)
    states, strengths, prior = [adapter(0), adapter(1)], [1.0, 0.5], 0.3
    inputs = [torch.randn(40, IN, generator=generator) for _ in states]
    kept = torch.randn(40, IN, generator=generator)
    merged = fused(
        states, strengths, [{LAYER: gram(x)} for x in inputs], {LAYER: gram(kept)}, prior=prior
    )
    wanted = [
        s * x @ update(state).T for s, x, state in zip(strengths, inputs, states, strict=True)
    ]
    a = torch.cat([*inputs, prior**0.5 * kept])
    b = torch.cat([*wanted, torch.zeros(40, OUT)])
    expected = torch.linalg.lstsq(a, b).solution.T
    torch.testing.assert_close(
        update(merged), expected, rtol=0, atol=1e-2 * expected.abs().max().item()
    )


def test_on_inputs_apart_each_acts_as_alone_and_nothing_else_moves() -> None:
    basis = torch.eye(IN).split(4)
    states = [adapter(0), adapter(1)]
    grams = [{LAYER: gram(x)} for x in basis[:2]]
    change = update(fused(states, [1.0, 1.0], grams, {LAYER: gram(basis[2])}))
    for x, state in zip(basis, states, strict=False):
        torch.testing.assert_close(x @ change.T, x @ update(state).T, rtol=0, atol=5e-3)
    assert (basis[2] @ change.T).abs().max() < 1e-3
    together = update(weighted_sum(states, [1.0, 1.0]))
    assert (basis[2] @ together.T).abs().max() > 0.5  # what a sum does to them


def test_input_grams_are_of_the_layers_inputs(small_flow) -> None:
    """The first block's text layers read the text itself, which is known."""
    generator = Generator().manual_seed(0)
    cond = Conditioning.stacked(torch.randn(3, 6, 8, generator=generator), torch.zeros(3, 8))
    names = FLUX.target_names("text_qk", 2)
    grams = input_grams(small_flow, names, cond, torch.randn(3, 4, 4, 4, generator=generator))
    assert set(grams) == set(names)
    torch.testing.assert_close(grams[names[1]], gram(cond.text.flatten(0, 1)))
    assert not any(module._forward_pre_hooks for module in small_flow.layers)


class Listener:
    """A text encoder that remembers what it was asked."""

    max_tokens = 20

    def __init__(self) -> None:
        self.batches: list[list[str]] = []

    def token_ids(self, text: str) -> list[int]:
        return [len(word) for word in text.split()]

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        self.batches.append(list(prompts))
        return Conditioning.stacked(torch.randn(len(prompts), 6, 8), torch.randn(len(prompts), 8))


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


def test_prompts_of_two_loras_at_once_say_nothing_of_either(small_flow) -> None:
    """Unless a LoRA has no others."""
    star = plan("star", ["a red star", "a star"], ["a ring", "a red ring"])
    red = plan("red", ["a red cat"], ["a ring", "a blue star"])
    both = plan("cat", ["a red cat"], ["a ring"])
    encoder, states = Listener(), [adapter(0), adapter(1)]
    numbers = {"backend": small_flow, "encoder": encoder, "latent_size": (4, 4)}
    for state in states:
        state[f"{LAYER}.lora_A.weight"] = state[f"{LAYER}.lora_A.weight"][:, :8]
    fused_by_prompts(states, [1.0, 1.0], [[star], [red]], **numbers)
    assert encoder.batches == [["a star"], ["a red cat"], ["a ring"]]
    encoder.batches.clear()
    fused_by_prompts(states, [1.0, 1.0], [[both], [red]], **numbers)
    assert encoder.batches[:2] == [["a red cat"], ["a red cat"]]


@pytest.mark.parametrize("strengths", [[1.0, 1.0], [0.5, -1.0]])
def test_a_merged_lora_is_one_that_models_take(small_flow, strengths) -> None:
    names = FLUX.target_names("text_qk", 2)
    slices = small_flow.linear_slices(names)
    parts = []
    for seed in (0, 1):
        lora = LoraSet(slices, rank=2, generator=Generator().manual_seed(seed))
        with torch.no_grad():
            for parameter in lora.parameters():
                parameter.normal_(generator=Generator().manual_seed(seed))
        parts.append(lora.state_dict())
    merged = LoraSet.from_state(slices, weighted_sum(parts, strengths))
    assert merged.rank == 4
    x = torch.randn(2, 6, 8, generator=Generator().manual_seed(9))
    module = slices[names[0]].module
    base = module(x)
    alone = []
    for part in parts:
        with LoraSet.from_state(slices, part).attach(slices):
            alone.append(module(x) - base)
    with merged.attach(slices):
        both = module(x) - base
    torch.testing.assert_close(both, strengths[0] * alone[0] + strengths[1] * alone[1])
