"""A disk that is full stops no training and hides no cancel; it is said that nothing is saved."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from training_runs import equal, no_space, stop_at, stopped, train

import erase_engine.training.checkpoint as checkpoint_module
from erase_engine.lora.file import save_lora
from erase_engine.training import disk
from erase_engine.training.checkpoint import Checkpoint
from erase_engine.training.disk import check_disk, fault_of_disk
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


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a small file system with these options."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("mounting needs root")

    def mount(options: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(tmp_path)]
        if subprocess.run(command, capture_output=True).returncode:
            pytest.skip("no mount here")
        return tmp_path

    yield mount
    subprocess.run(["umount", str(tmp_path)], capture_output=True)


def test_a_file_system_that_is_really_full(mounted, small_flow, encoded) -> None:
    folder = mounted("size=64k")
    erasure = train(small_flow, encoded, Checkpoint(folder), trajectories=64, batch=32)
    assert "No space left on device" in erasure.warnings[0]
    with pytest.raises(KeyboardInterrupt):
        changes = {"trajectories": 64, "batch": 32, "seed": 1}
        train(small_flow, encoded, Checkpoint(folder), on_step=stop_at(2), **changes)
    with pytest.raises(
        ValueError, match=r"the LoRA a\.x: .* has 0\.\d MB free and 1\.0 MB are needed"
    ):
        check_disk(folder / "new" / "a.x", 2**20)
    assert not fault_of_disk(folder / "new", 10)


def test_a_file_system_without_a_byte_free(mounted, monkeypatch) -> None:
    """0 free is also what disks say that do not know: these are believed to have room."""
    folder = mounted("size=64k")
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=0))
    assert not fault_of_disk(folder / "new", 10)
    monkeypatch.undo()
    with (folder / "fill").open("wb", buffering=0) as fill:
        fill.write(bytes(2**16 - 4096))
        assert "has 0.0 MB free" in fault_of_disk(folder / "new", 2**20)  # the probe takes it all
        fill.write(bytes(4096))
    assert "can't be written to (No space left on device)" in fault_of_disk(folder / "new", 10)


def test_a_file_system_that_is_read_only(mounted) -> None:
    folder = mounted("ro")
    with pytest.raises(ValueError, match=r"can't be written to \(Read-only file system\).*Make"):
        check_disk(folder / "a.x", 1)


def test_a_lora_that_finds_no_room_says_where_and_what_to_do(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(Path, "write_bytes", no_space)
    state = {"a.lora_A.weight": torch.ones(1, 2), "a.lora_B.weight": torch.ones(2, 1)}
    says = r"Got no way to write .*a\.safetensors \(.*No space left.*room for \d+ bytes\. Make room"
    with pytest.raises(OSError, match=says):
        save_lora(tmp_path / "a.safetensors", state, {})
    assert not list(tmp_path.iterdir())
