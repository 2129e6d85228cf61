"""Two workers share the tests; the engine's tests train a model so small that it takes a moment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

os.environ["OMP_NUM_THREADS"] = "1"  # before torch is there: threads of two workers only wait

import pytest
import torch
from comfy_server import Server, comfy_server
from setup import comfyui_path
from torch import Generator, Tensor, nn
from xdist.scheduler import LoadFileScheduling

from erase_engine.families.flux import FLUX
from erase_engine.interfaces import (
    AttentionCapture,
    Conditioning,
    LatentGrid,
    LinearSlice,
    TokenSet,
)
from erase_engine.lora.adapters import LoraSet
from erase_engine.training.encoded_prompts import Contrast, EncodedPrompts

WIDTH, TEXT_LENGTH, PAIRS, IRRELEVANT = 8, 6, 3, 2


SERVER_TESTS = ("tests/browser/", "tests/host/pack/test_server.py")


class OneServer(LoadFileScheduling):
    """A file is one worker's, and so are all tests that ask a ComfyUI server: it starts once."""

    def _split_scope(self, nodeid: str) -> str:
        return "server" if nodeid.startswith(SERVER_TESTS) else super()._split_scope(nodeid)


class SmallFlow:
    """A `FlowModel` of two joint attention blocks with one head; `samples` counts forwards."""

    device, dtype = torch.device("cpu"), torch.float32
    joint_blocks, blocks, latents = 2, 2, LatentGrid(4)
    entrances: ClassVar[dict[str, Any]] = {}  # no layer that text alone enters through

    def __init__(self, seed: int = 0) -> None:
        generator = Generator().manual_seed(seed)
        names = ("add_q_proj", "add_k_proj", "to_q", "to_k", "to_v", "add_v_proj")
        self.layers_of = [{name: nn.Linear(WIDTH, WIDTH) for name in names} for _ in range(2)]
        self.enter, self.leave = nn.Linear(4, WIDTH), nn.Linear(WIDTH, 4)
        self.layers = [layer for block in self.layers_of for layer in block.values()]
        for layer in (*self.layers, self.enter, self.leave):
            layer.requires_grad_(False)
            layer.weight.normal_(std=WIDTH**-0.5, generator=generator)
            layer.bias.zero_()
        self.samples, self.cfg = 0, 1.0

    def velocity(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, *, capture: AttentionCapture | None = None
    ) -> Tensor:
        image = self.enter(x_t.flatten(2).transpose(1, 2)) + t[:, None, None]
        text = cond.text + cond.pooled[:, None]
        for index, block in enumerate(self.layers_of):
            k = torch.cat([block["add_k_proj"](text), block["to_k"](image)], 1)
            v = torch.cat([block["add_v_proj"](text), block["to_v"](image)], 1)
            weights = (block["to_q"](image) @ k.transpose(1, 2) / WIDTH**0.5).softmax(-1)
            text = text + block["add_q_proj"](text).tanh()
            image = image + weights @ v
            if capture and index in capture.blocks:
                capture.mass[index] = self._mass(weights, capture.tokens)
        image = image + text.mean(1, keepdim=True)  # so that every layer has an effect
        out = self.leave(image).transpose(1, 2).reshape(x_t.shape)
        self.samples += len(x_t) * (3 if out.requires_grad else 1)
        return out

    @staticmethod
    def _mass(weights: Tensor, tokens: Tensor) -> Tensor:
        """(B, 1, L, J)"""
        columns = tokens.clamp(min=0)[:, None].expand(-1, weights.shape[1], -1)
        return (weights.gather(2, columns) * (tokens >= 0)[:, None])[:, None]

    def timesteps(self, steps: int, height: int, width: int) -> Tensor:
        return torch.linspace(1, 0, steps + 1)

    def target_names(self, target: str) -> list[str]:
        return FLUX.target_names(target, self.joint_blocks)

    def linear_slices(self, names: list[str]) -> dict[str, LinearSlice]:
        found = {}
        for name in names:
            _, index, _, layer = name.split(".")
            found[name] = LinearSlice(self.layers_of[int(index)][layer], 0, WIDTH, WIDTH)
        return found

    def adapters(self, slices: dict[str, LinearSlice], **numbers: Any) -> LoraSet:
        return LoraSet(slices, **numbers)


def encoded_plan(*, contrast: bool = True) -> EncodedPrompts:
    """Random prompts: three pairs that differ in two tokens, four keep prompts."""
    generator = Generator().manual_seed(1)

    def some(rows: int) -> Conditioning:
        text = torch.randn(rows, TEXT_LENGTH, WIDTH, generator=generator)
        return Conditioning.stacked(text, torch.randn(rows, WIDTH, generator=generator) / 4)

    def like(cond: Conditioning, times: int = 1) -> Conditioning:
        """The same prompts with other features where the concept's word is."""
        text = cond.text.repeat_interleave(times, 0)
        text[:, 1:3] = torch.randn(text[:, 1:3].shape, generator=generator)
        return Conditioning.stacked(text, cond.pooled.repeat_interleave(times, 0))

    concept = some(PAIRS)
    tokens = torch.tensor([[1, 2], [1, 2], [1, -1]])
    beside = torch.tensor([[0, 3], [0, 3], [0, -1]])
    contrasted = Contrast(
        like(concept), tokens, like(concept, IRRELEVANT), tokens.repeat_interleave(IRRELEVANT, 0)
    )
    anchor, keep = like(concept), some(4)
    return EncodedPrompts(
        concept,
        anchor,
        TokenSet(tokens, beside),
        keep,
        keep.prompts[0],
        contrasted if contrast else None,
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """None for a single file, which would be one worker's alone."""
    named = [Path(arg.split("::")[0]) for arg in config.args]
    return 0 if len(named) == 1 and named[0].is_file() else 2


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    return OneServer(config, log)


@pytest.fixture(scope="session")
def comfyui(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A ComfyUI with the pack in it, for all tests that ask a server."""
    with comfy_server(comfyui_path(), tmp_path_factory.mktemp("comfyui")) as running:
        yield running


@pytest.fixture
def small_flow() -> SmallFlow:
    return SmallFlow()


@pytest.fixture
def encoded() -> EncodedPrompts:
    return encoded_plan()
