"""What a training says it will need, and when it refuses to begin."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import graph
import pytest
import torch
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.interfaces import Conditioning
from eraseanything_pack.erase_engine.memory import MemoryEstimate, trajectory_bytes
from eraseanything_pack.erase_engine.training.cost import streamed_in_words
from eraseanything_pack.erase_engine.training.teacher import (
    CountedModel,
    ForwardCount,
    cache_all_trajectories,
)
from eraseanything_pack.nodes.training import node_host
from eraseanything_pack.nodes.training.memory_check import (
    check_room,
    left_behind,
    meta_twin,
    needed,
)
from tiny_flux import NEWER_HOST, build

CONFIG = EraseConfig(
    width=64,
    height=64,
    batch=2,
    keep_per_step=2,
    trajectories=3,
    keep_trajectories=5,
    trajectory_steps=4,
)


def test_the_report_says_it(loras: Path) -> None:
    said = graph.erase(graph.flux())[3].splitlines()[-1]
    cost, words = said.split(" Expected to need ", 1)
    assert re.fullmatch(r"It takes at most \d+ passes of the model, .* 20 steps takes 20\.", cost)
    assert re.match(r"about \d+ MB: 1 MB for the weights and \d+ MB for", words)


def test_the_report_says_what_is_streamed(loras: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_host, "left_behind", lambda model, memory: 2**30)
    assert "About 1.0 GB of the weights find no room on the GPU" in graph.erase(graph.flux())[3]


@pytest.mark.parametrize(
    ("dtype", "said"), [(torch.float8_e4m3fn, True), (torch.bfloat16, False)], ids=str
)
def test_the_report_says_that_weights_are_packed(
    loras: Path, dtype: torch.dtype, said: bool
) -> None:
    small = build(dtype, compute=torch.float32, sizes=graph.SIZES)
    assert ("The weights stay packed, as fp8" in graph.erase(small)[3]) == said


@pytest.mark.skipif(not NEWER_HOST, reason="layers have their weights from the start")
def test_layers_that_wait_for_a_file_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As newer hosts make them beside a card: the twin that is counted reads no file."""
    import comfy.memory_management

    model = build()
    expected = meta_twin(model).model_size()
    monkeypatch.setattr(comfy.memory_management, "aimdo_enabled", True)
    assert meta_twin(model).model_size() == expected


TEXT_LENGTH = 6


@pytest.fixture
def fitting(encoded: Any) -> Any:
    """Prompts as wide as the model of `graph` wants them."""
    params = graph.flux().model.diffusion_model.params
    text = torch.randn(3, TEXT_LENGTH, params.context_in_dim)
    cond = Conditioning.stacked(text, torch.randn(3, params.vec_in_dim))
    return replace(encoded, concept=cond, anchor=cond, keep=cond)


def test_sizes_are_the_models_own(fitting: Any) -> None:
    model = graph.flux()
    params = model.model.diffusion_model.params
    blocks, tokens = params.depth + params.depth_single_blocks, 16 + TEXT_LENGTH
    memory = needed(model, fitting, CONFIG)
    inputs = blocks * CONFIG.batch * tokens * params.hidden_size * 4
    assert inputs <= memory.kept <= 1.5 * inputs  # the latents are among the rest
    assert memory.weights == model.model_size()


def test_it_is_counted_once_for_a_model_and_a_setting(fitting: Any) -> None:
    model = graph.flux()
    first = needed(model, fitting, CONFIG)
    assert needed(model.clone(), fitting, CONFIG) is first
    more = needed(model, fitting, replace(CONFIG, batch=4))
    assert more.kept == pytest.approx(2 * first.kept, rel=0.05)


def test_states_take_what_is_said(small_flow: Any, encoded: Any) -> None:
    model = CountedModel(small_flow, encoded, CONFIG, ForwardCount(0))
    banks = cache_all_trajectories(model, generator=torch.Generator(), on_pass=lambda: None)
    assert banks.keep
    held = sum(
        one.nbytes
        for bank in (banks.erase, banks.keep)
        for one in (bank.states, bank.teacher_velocity)
    )
    assert held == trajectory_bytes(CONFIG, model.latent_shape)


def test_a_gpu_that_is_too_small_is_named(monkeypatch: pytest.MonkeyPatch, fitting: Any) -> None:
    memory = needed(graph.flux(), fitting, CONFIG)
    gpu = SimpleNamespace(load_device=torch.device("cuda", 0))
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda device: 10_000_000)
    with pytest.raises(ValueError, match=r"Got a GPU with 10 MB, expected at least \d+ MB"):
        check_room(gpu, memory)
    room = memory.beside_weights
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda device: room)
    check_room(gpu, memory)  # weights may stay outside
    check_room(SimpleNamespace(load_device=torch.device("cpu")), memory)


def test_what_finds_no_room_is_told(monkeypatch: pytest.MonkeyPatch, encoded: Any) -> None:
    host, card = comfy.model_management, SimpleNamespace(load_device=torch.device("cuda"))
    memory = MemoryEstimate(weights=12 * 2**30, kept=2**30, working=2**30, lora=0)
    reserved = memory.beside_weights + host.extra_reserved_memory()
    for room, left in ((8, 4 * 2**30), (12, 0), (20, 0)):
        total = room * 2**30 + reserved
        monkeypatch.setattr(host, "get_total_memory", lambda device, total=total: total)
        assert left_behind(card, memory) == left
    assert left_behind(SimpleNamespace(load_device=torch.device("cpu")), memory) == 0
    # Of three paths two go at once, in 4 steps: 2 x 2 x 4 for the concept's and the anchor's, and
    # 3 x 4 for five to keep; in each of 200 steps they are read twice for each of two losses.
    said = streamed_in_words(2**30, encoded, CONFIG, guided=False)
    assert said.endswith(f"for each use, at most {28 + 800} times, 828.0 GB in all.")
