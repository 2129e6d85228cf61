"""A disk that is full stops no training and hides no cancel; it is said that nothing is saved."""

from __future__ import annotations

import os
import subprocess

import pytest
from training_runs import equal, no_space, stop_at, stopped, train

import erase_engine.training.checkpoint as checkpoint_module
from erase_engine.training.checkpoint import Checkpoint
from erase_engine.training.loop import StepReport


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every write of a checkpoint's file finds no space."""
    monkeypatch.setattr(checkpoint_module, "save_file", no_space)


def test_a_full_disk_does_not_stop_a_training(full, small_flow, encoded, tmp_path) -> None:
    erasure = train(small_flow, encoded, Checkpoint(tmp_path, every=2))
    assert equal(erasure, train(small_flow, encoded))
    (warning,) = erasure.warnings
    assert "can't be resumed" in warning and "No space left on device" in warning
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_full_disk_does_not_hide_a_cancel(full, small_flow, encoded, tmp_path) -> None:
    checkpoint = Checkpoint(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        train(small_flow, encoded, checkpoint, on_step=stop_at(3))
    assert checkpoint.latest and checkpoint.latest.step == 3


def test_an_older_state_survives_a_disk_that_fills_up(
    small_flow, encoded, tmp_path, monkeypatch
) -> None:
    stopped(small_flow, encoded, tmp_path, 4)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoint_module, "save_file", no_space)
        stopped(small_flow, encoded, tmp_path, 8)
    begun: list[StepReport] = []
    train(small_flow, encoded, Checkpoint(tmp_path), on_step=begun.append)
    assert begun[0].step == 5


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="mounting needs root")
def test_a_file_system_that_is_really_full(small_flow, encoded, tmp_path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("no mount here")
    try:
        erasure = train(small_flow, encoded, Checkpoint(tmp_path), trajectories=64, batch=32)
        assert "No space left on device" in erasure.warnings[0]
        with pytest.raises(KeyboardInterrupt):
            changes = {"trajectories": 64, "batch": 32, "seed": 1}
            train(small_flow, encoded, Checkpoint(tmp_path), on_step=stop_at(2), **changes)
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)
