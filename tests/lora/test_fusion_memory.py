"""What a fusion takes at FLUX's width, counted on the meta device: bytes, and what is moved."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from fusion_reference import SIZE, State, prompts, reference_grams
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from erase_engine.interfaces import Conditioning, LatentGrid, LinearSlice
from erase_engine.lora import fusion
from erase_engine.lora.fusion import AT_ONCE, TIMES, FusionMemory, fuse, fusion_memory

LORAS, BLOCKS, WIDTH, POOLED, RANK = 8, 19, 3072, 768, 8
TOKENS = 64  # of each prompt: what is summed does not grow with them


class WideFlow:
    """Linears of FLUX.1's text stream and pooled text on the meta device: sizes without numbers.

    q, k and v are rows of one Linear as in ComfyUI, or, `apart`, three that are given one tensor.
    """

    latents, device = LatentGrid(4), torch.device("meta")

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
    noise = lambda count, shape, seed: torch.empty(count, *shape)  # noqa: E731
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
