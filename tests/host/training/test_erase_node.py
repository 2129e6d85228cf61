"""Erase Concept in a graph: it gives the MODEL back however it ends, and goes on where it was."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.utils
import graph
import pytest
import torch
from eraseanything_pack.erase_engine import atomic_file as atomic_file
from eraseanything_pack.erase_engine.training import losses, teacher
from eraseanything_pack.nodes.training.inputs import FAST
from progress_hook import STEPS, Cancel, interrupt_at, watch_progress
from snapshot import assert_same, snapshot


class Trouble(Exception):
    """Stands for whatever goes wrong."""


SAMPLED = 5 * replace(FAST, steps=3, batch=graph.ERASE["batch"]).paths * FAST.trajectory_steps


@pytest.fixture
def model() -> Any:
    return graph.flux()


@pytest.fixture
def progress(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the page's progress bar is told: (done, total)."""
    told: list[tuple[int, int]] = []
    watch_progress(monkeypatch, lambda done, total: told.append((done, total)))
    return told


def test_the_model_is_given_back(model: Any, loras: Path) -> None:
    before = snapshot(model, graph.conditioning())
    _, _, erased, _ = graph.erase(model)
    assert_same(before, snapshot(model, graph.conditioning()))
    assert not torch.equal(graph.picture(erased), before["picture"])


def fail_forward(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    _fail_at_call(model, 1)


def fail_recompute(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Inside backward, where the checkpointed block runs again."""
    _fail_at_call(model, 2)


def _fail_at_call(model: Any, wanted: int) -> None:
    """The n-th call with gradients of a layer of the last double block raises."""
    calls = 0

    def hook(module: torch.nn.Module, args: Any) -> None:
        nonlocal calls
        calls += torch.is_grad_enabled()
        if calls == wanted:
            handle.remove()
            raise Trouble

    layer = model.model.diffusion_model.double_blocks[1].img_mlp[0]
    handle = layer.register_forward_pre_hook(hook)


def fail_backward(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    loss = losses.ERASE_LOSSES["esd"]
    fails = lambda *args: _FailsBackward.apply(loss(*args))  # noqa: E731
    monkeypatch.setitem(losses.ERASE_LOSSES, "esd", fails)


class _FailsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        raise Trouble


def fail_on_step(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def hook(done: int, total: int) -> None:
        if done > SAMPLED:
            raise Trouble

    watch_progress(monkeypatch, hook)


def fail_save(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def claim(draft: Path, path: Path) -> None:  # of LoRAs alone, not of the checkpoint's files
        raise Trouble

    monkeypatch.setattr(atomic_file, "_claim", claim)


def cancel(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def hook(done: int, total: int) -> None:
        if done > SAMPLED:
            comfy.model_management.interrupt_current_processing(True)

    watch_progress(monkeypatch, hook)


def cancel_at_once(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the teacher draws its paths, before the first step."""
    build = teacher.cache_trajectories

    def interrupted(*args: Any, **options: Any) -> Any:
        comfy.model_management.interrupt_current_processing(True)
        return build(*args, **options)

    monkeypatch.setattr(teacher, "cache_trajectories", interrupted)


ENDINGS = {
    fail_forward: Trouble,
    fail_backward: Trouble,
    fail_recompute: Trouble,
    fail_on_step: Trouble,
    fail_save: Trouble,
    cancel: Cancel,
    cancel_at_once: Cancel,
}


@pytest.mark.parametrize("ending", ENDINGS, ids=lambda ending: ending.__name__)
def test_the_model_is_given_back_after(
    ending: Any, model: Any, loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = snapshot(model, graph.conditioning())
    with monkeypatch.context() as patch:
        ending(model, patch)
        with pytest.raises(ENDINGS[ending]):
            graph.erase(model)
    assert_same(before, snapshot(model, graph.conditioning()))
    files = [path for path in loras.rglob("*") if path.is_file()]
    assert all(re.fullmatch(r"star_step\d_00001\.safetensors", path.name) for path in files)
    assert not comfy.model_management.processing_interrupted()


def test_the_progress_bar_reaches_its_end(
    model: Any, loras: Path, progress: list[tuple[int, int]]
) -> None:
    graph.erase(model, steps=3)
    done = [each for each, _ in progress]
    assert done == sorted(set(done)) and sum(each > SAMPLED for each in done) == 3
    assert {total for _, total in progress} == {done[-1]}


@pytest.mark.parametrize("at", [1, SAMPLED + 1], ids=["sampling", "training"])
def test_cancel_stops_after_the_pass_it_fell_into(
    at: int, model: Any, loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[int] = []

    def hook(done: int, total: int) -> None:
        told.append(done)
        if done >= at:
            comfy.model_management.interrupt_current_processing(True)

    watch_progress(monkeypatch, hook)
    with pytest.raises(Cancel):
        graph.erase(model, steps=3)
    assert sum(done >= at for done in told) == 1


@pytest.mark.parametrize("bar", [0, 1], ids=["ranking words", "encoding"])
def test_preparing_shows_its_progress_and_can_be_cancelled(
    bar: int, model: Any, loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[tuple[int, int]] = []

    def hook(done: int, total: int) -> None:
        told.append((done, total))
        totals = list(dict.fromkeys(total for _, total in told))
        if len(totals) > bar and done == 3:
            comfy.model_management.interrupt_current_processing(True)

    watch_progress(monkeypatch, hook, preparing=True)
    with pytest.raises(Cancel):
        graph.erase(model)
    assert told[-1][0] == 3 and told[-1][1] > 20
    assert len({total for _, total in told}) == bar + 1
    assert not any(loras.rglob("*.safetensors"))


def test_cancel_in_the_last_step_is_a_cancel(
    model: Any, loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hook(done: int, total: int) -> None:
        if done == total:
            comfy.model_management.interrupt_current_processing(True)

    watch_progress(monkeypatch, hook)
    with pytest.raises(Cancel):
        graph.erase(model, steps=1)
    names = [path.name for path in loras.rglob("*.safetensors")]
    assert names == ["star_step1_00001.safetensors"]


def test_cancelled_and_queued_again_is_the_same_file(
    model: Any, loras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    graph.erase(model, file_name="whole")
    with monkeypatch.context() as patch, pytest.raises(Cancel):
        interrupt_at(patch, 2)
        graph.erase(model)
    (so_far,) = (loras / "EraseAnything").iterdir()
    assert so_far.name == "star_step2_00001.safetensors"
    graph.apply(model, file=f"EraseAnything/{so_far.name}")
    told: list[int] = []
    watch_progress(monkeypatch, lambda done, total: told.append(done))
    graph.erase(model)
    assert len(told) == 1  # the third step alone
    resumed = (loras / "EraseAnything" / "star_00001.safetensors").read_bytes()
    assert resumed == (loras / "whole_00001.safetensors").read_bytes()
    assert not so_far.exists()
    assert not any(path.is_file() for path in (tmp_path / "output").rglob("*"))


@pytest.mark.parametrize("changes", [{"resume": False}, {"seed": 1}, {"synonyms": ""}])
def test_other_inputs_and_no_resume_begin_anew(
    model: Any, loras: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]
) -> None:
    with monkeypatch.context() as patch, pytest.raises(Cancel):
        interrupt_at(patch, 2)
        graph.erase(model)
    (so_far,) = (loras / "EraseAnything").iterdir()
    told: list[int] = []
    watch_progress(monkeypatch, lambda done, total: told.append(done))
    graph.erase(model, **changes)
    assert len(told) > STEPS  # the paths, and every step
    assert so_far.exists() == ("resume" not in changes)  # another training's stays
