"""Fused LoRAs: each acts on its own inputs as alone; what it takes in memory at FLUX's width."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Generator, Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from erase_engine.concepts.plan import ConceptPlan, PromptPair
from erase_engine.interfaces import Conditioning, LinearSlice, Prompt
from erase_engine.lora import fusion
from erase_engine.lora.fusion import (
    AT_ONCE,
    PRIOR,
    TIMES,
    FusionMemory,
    fuse,
    fusion_memory,
    fusion_prompts,
    fusion_steps,
)
from erase_engine.lora.grams import RIDGE, FusedLayers, InputGrams
from erase_engine.lora.merge import layers_of

State = dict[str, Tensor]
IN, SIZE = 12, (4, 4)
CPU = torch.device("cpu")


# --- a plain reference: a Gram matrix of every layer for every LoRA ------------------------------


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
    noise = fusion.start_noise(len(cond), flow.latent_channels, SIZE, seed=0)
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


# --- the formula ---------------------------------------------------------------------------------


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


# --- memory and copies ---------------------------------------------------------------------------

LORAS, BLOCKS, WIDTH, POOLED, RANK = 8, 19, 3072, 768, 8
TOKENS = 64  # of each prompt: what is summed does not grow with them


class WideFlow:
    """Linears of FLUX.1's text stream and pooled text on the meta device: sizes without numbers.

    q, k and v are rows of one Linear as in ComfyUI, or, `apart`, three that are given one tensor.
    """

    latent_channels, device = 4, torch.device("meta")

    def __init__(self, *, width: int = WIDTH, blocks: int = BLOCKS, apart: bool = False) -> None:
        self.width, self.blocks, self.device = width, blocks, torch.device("meta")
        self.qkv = [
            [self._linear(width, width) for _ in range(3)]
            if apart
            else [self._linear(width, 3 * width)]
            for _ in range(blocks)
        ]
        self.out = [self._linear(width, width) for _ in range(blocks)]
        self.pooled = [self._linear(POOLED, width), self._linear(width, width)]
        self.forwards = 0

    def _linear(self, width: int, out: int) -> nn.Linear:
        return nn.Linear(width, out, device=self.device)

    def target_names(self, target: str) -> list[str]:
        layers = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
        blocks = [
            f"transformer_blocks.{i}.attn.{one}" for i in range(self.blocks) for one in layers
        ]
        outside = [f"time_text_embed.text_embedder.linear_{number}" for number in (1, 2)]
        return blocks + outside

    def linear_slices(self, names: Sequence[str]) -> dict[str, LinearSlice]:
        found = {}
        for name in names:
            if "linear_" in name:
                module, place = self.pooled[int(name[-1]) - 1], 0
            else:
                index, place = int(name.split(".")[1]), "qkv".find(name[-6])
                several = self.qkv[index]
                module = self.out[index] if place < 0 else several[min(place, len(several) - 1)]
            start = place * self.width if module.out_features > self.width else 0
            found[name] = LinearSlice(module, start, self.width, module.in_features)
        return found

    def timesteps(self, steps: int, height: int, width: int) -> Tensor:
        return torch.linspace(1, 0, steps + 1)

    def velocity(self, x_t: Tensor, t: Tensor, cond: Conditioning) -> Tensor:
        self.forwards += 1
        self.pooled[1](self.pooled[0](torch.empty(len(x_t), POOLED, device=self.device)))
        for several, out in zip(self.qkv, self.out, strict=True):
            text = torch.empty(len(x_t), TOKENS, self.width, device=self.device)
            for module in several:
                module(text)
            out(torch.empty_like(text))
        return x_t


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that are alive, but for a flow's weights, and the most."""

    def __init__(self, flow: WideFlow) -> None:
        super().__init__()
        self.now = self.peak = 0
        weights = [one.weight for several in (*flow.qkv, flow.out, flow.pooled) for one in several]
        self._known = {weight.untyped_storage()._cdata for weight in weights}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            if isinstance(each, Tensor):
                self._count(each.untyped_storage())
        return out

    def _count(self, storage: torch.UntypedStorage) -> None:
        key, size = storage._cdata, storage.nbytes()
        if key not in self._known:
            self._known.add(key)
            self.now += size
            self.peak = max(self.peak, self.now)
            weakref.finalize(storage, self._gone, key, size)

    def _gone(self, key: int, size: int) -> None:
        self._known.discard(key)
        self.now -= size


def wide_case(flow: WideFlow) -> tuple[list[State], list[Conditioning]]:
    """Eight LoRAs of a flow's text and pooled layers, and nine sources of few prompts."""
    slices = flow.linear_slices(flow.target_names("text_pooled"))
    state = {}
    for name, part in slices.items():
        state[f"{name}.lora_A.weight"] = torch.empty(RANK, part.in_features, device="meta")
        state[f"{name}.lora_B.weight"] = torch.empty(part.length, RANK, device="meta")
        state[f"{name}.alpha"] = torch.tensor(float(RANK), device="cpu")
    return [state] * LORAS, [prompts(AT_ONCE, seed) for seed in range(LORAS + 1)]


@pytest.fixture
def moved(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Everything is on the meta device; `Tensor.cpu` notes the bytes that it would move."""
    found: list[int] = []

    def cpu(tensor: Tensor) -> Tensor:
        found.append(tensor.nbytes)
        return tensor

    monkeypatch.setattr(Tensor, "cpu", cpu)
    noise = lambda count, *size, seed: torch.empty(count, size[0], *size[1])  # noqa: E731
    monkeypatch.setattr(fusion, "start_noise", noise)
    with torch.device("meta"):
        yield found


PER_SOURCE = 4 * ((2 * BLOCKS + 1) * WIDTH**2 + POOLED**2)  # bytes of a Gram of each input


@pytest.mark.parametrize("apart", [False, True], ids=["fused_qkv", "q_k_v"])
def test_eight_loras_at_flux_width_need_a_gram_of_each_input_and_move_it_once(
    apart: bool, moved: list[int]
) -> None:
    """1.5 GB where the model computes, 3.1 GB on the host, 1.5 GB moved after each LoRA."""
    flow = WideFlow(apart=apart)
    states, conds = wide_case(flow)
    steps: list[int] = []
    with LiveBytes(flow) as live:
        fuse(
            *(states, [1.0] * LORAS, conds),
            **{"backend": flow, "latent_size": SIZE, "on_step": lambda: steps.append(sum(moved))},
        )
    passes = (LORAS + 1) * TIMES
    assert flow.forwards == passes and steps[:TIMES] == [0] * TIMES
    assert len(set(steps[:passes])) == LORAS + 1  # moved between the sources only
    a_g = LORAS * RANK * (4 * BLOCKS * WIDTH + POOLED + WIDTH)
    host = 2 * PER_SOURCE + 8 * a_g
    assert pytest.approx(1.47e9, rel=0.01) == PER_SOURCE and host == pytest.approx(3.07e9, rel=0.01)
    grams = [size for size in moved if size >= 4 * POOLED**2]
    assert sum(grams) == (LORAS + 1) * PER_SOURCE and sum(moved) < 1.1 * sum(grams)
    ups = 4 * LORAS * RANK * (4 * BLOCKS + 2) * WIDTH  # of the LoRAs, as strong as asked for
    assert PER_SOURCE + host < live.peak < 1.05 * (PER_SOURCE + host + ups)
    estimate = fusion_memory(states, flow.linear_slices(flow.target_names("text_pooled")))
    if not apart:
        assert estimate == FusionMemory(PER_SOURCE, host)
    assert estimate.device >= PER_SOURCE and estimate.host >= host


def test_the_plain_reference_needs_six_times_as_much_and_moves_as_much_in_each_pass(
    moved: list[int],
) -> None:
    flow = WideFlow()
    states, conds = wide_case(flow)
    with LiveBytes(flow) as before:
        names = flow.target_names("text_pooled")
        held = [reference_grams(flow, names, cond, Tensor.cpu) for cond in conds]
    assert sum(moved) == len(held) * TIMES * PER_SOURCE
    with LiveBytes(flow) as after:
        fuse(states, [1.0] * LORAS, conds, backend=flow, latent_size=SIZE)
    assert before.peak > 24 * 2**30 and before.peak > 6 * after.peak
