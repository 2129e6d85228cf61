"""What stops a training is what rises, and each training of a name goes on from its own state."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import graph
import pytest
from eraseanything_pack.erase_engine.training import checkpoint, disk
from eraseanything_pack.erase_engine.training.loop import StepReport
from eraseanything_pack.nodes.host.progress import step_progress
from eraseanything_pack.nodes.training import node_host
from eraseanything_pack.nodes.training.events import TrainingEvents
from progress_hook import STEPS, Cancel, interrupt_at, watch_progress


@pytest.fixture
def model() -> Any:
    return graph.flux()


def no_space(*args: Any, **kwargs: Any) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("stage", ["solving", "solved"])
def test_cancel_is_heard_where_no_pass_moves_the_bar(stage: Any) -> None:
    """On a large encoder it solves for a while."""
    on_step, report = step_progress(), StepReport(0, 20, {}, 0.0, 0, 100, stage=stage)
    on_step(report)
    comfy.model_management.interrupt_current_processing(True)
    with pytest.raises(Cancel):
        on_step(report)
    on_step(report)  # it was one cancel


@contextmanager
def cancelled(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    with monkeypatch.context() as patch, pytest.raises(Cancel):
        interrupt_at(patch, 2)
        yield patch


def steps_of(monkeypatch: pytest.MonkeyPatch, model: Any, **widgets: Any) -> int:
    """How often the progress bar moves: once for each step, and for each pass of sampling."""
    told: list[int] = []
    with monkeypatch.context() as patch:
        watch_progress(patch, lambda done, total: told.append(done))
        graph.erase(model, **widgets)
    return len(told)


def test_two_seeds_of_one_name_each_go_on(
    model: Any, loras: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for seed in (0, 1):
        with cancelled(monkeypatch):
            graph.erase(model, seed=seed)
    assert [steps_of(monkeypatch, model, seed=seed) for seed in (0, 1)] == [STEPS - 2, STEPS - 2]
    assert not list((tmp_path / "output").rglob("unfinished"))


def test_the_report_tells_of_what_lies_unfinished(
    model: Any, loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "unfinished" not in graph.erase(model, steps=1)[3]
    with cancelled(monkeypatch):
        graph.erase(model)
    report = graph.erase(model, seed=1, steps=1)[3]
    assert "1 unfinished training lies in" in report and "delete that folder" in report


def test_a_full_disk_stops_no_training_and_is_reported(
    model: Any, loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "save_file", no_space)
    report = graph.erase(model, steps=1)[3]
    assert "This training can't be resumed if it is stopped:" in report
    assert "No space left on device" in report


def test_a_cancel_stays_a_cancel_where_nothing_can_be_saved(
    model: Any, loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cancelled(monkeypatch) as patch:
        patch.setattr(checkpoint, "save_file", no_space)
        patch.setattr(node_host, "save_erasure", no_space)
        graph.erase(model)
    assert not list(loras.rglob("*.safetensors"))


def test_a_disk_without_room_for_the_lora_is_told_before_the_model_is_loaded(
    model: Any, loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=100))
    monkeypatch.setattr(node_host, "training_session", None)
    says = r"Got no room for the LoRA star: .*loras has 0\.0 MB free and 0\.0 MB are needed.*Make"
    with pytest.raises(ValueError, match=says):
        graph.erase(model)


def test_a_disk_without_room_for_resuming_is_told_before_the_model_is_loaded(
    model: Any, loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=100_000))
    monkeypatch.setattr(node_host, "training_session", None)
    told: list[str] = []
    monkeypatch.setattr(TrainingEvents, "say", lambda self, text: told.append(text))
    with pytest.raises(TypeError):
        graph.erase(model)
    assert "This training can't be resumed if it is stopped: " in told[0]
    assert "has 0.1 MB free and" in told[0] and "MB are needed. Make room first" in told[0]
