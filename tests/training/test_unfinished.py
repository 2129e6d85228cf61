"""What stopped trainings leave: each its own folder, which another one of its name leaves alone."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from training_runs import CONFIG, equal, folder_in, stop_at, stopped, train

from erase_engine.cli.train import main
from erase_engine.training.checkpoint import STATE, TRAJECTORIES, Checkpoint
from erase_engine.training.loop import Erasure, StepReport, Training
from erase_engine.training.unfinished import clear, note_of, unfinished_in


@pytest.mark.parametrize("changes", [{"learning_rate": 0.01}, {"seed": 1}])
def test_another_training_of_the_name_leaves_the_first_one_s_state(
    small_flow, encoded, tmp_path, changes
) -> None:
    """Both are stopped, and both go on."""
    whole = train(small_flow, encoded)
    stopped(small_flow, encoded, tmp_path, 6)
    stopped(small_flow, encoded, tmp_path, 3, **changes)
    begun: list[StepReport] = []
    other = Checkpoint(tmp_path)
    train(small_flow, encoded, other, on_step=begun.append, **changes)
    other.clear()
    assert begun[0].step == 4
    first = Checkpoint(tmp_path, strict=True)
    assert equal(train(small_flow, encoded, first, on_step=begun.append), whole)
    assert begun[6].step == 7
    first.clear()
    assert not tmp_path.exists()


def test_another_model_s_training_of_the_name_stays(small_flow, encoded, tmp_path) -> None:
    whole = train(small_flow, encoded)
    stopped(small_flow, encoded, tmp_path, 6)
    before = small_flow.leave.weight.clone()
    small_flow.leave.weight.mul_(1.01)
    stopped(small_flow, encoded, tmp_path, 2)
    small_flow.leave.weight.copy_(before)
    begun: list[StepReport] = []
    gone_on = train(small_flow, encoded, Checkpoint(tmp_path), on_step=begun.append)
    assert begun[0].step == 7 and equal(gone_on, whole)


def test_a_twin_that_runs_at_the_same_time_trains_without_saving(
    small_flow, encoded, tmp_path
) -> None:
    twins: list[Erasure] = []

    def on_step(report: StepReport) -> None:
        if report.step == 5:
            twins.append(train(type(small_flow)(), encoded, Checkpoint(tmp_path)))

    first = Checkpoint(tmp_path, every=2)
    erasure = train(small_flow, encoded, first, on_step=on_step)
    assert equal(twins[0], erasure) and not erasure.warnings
    assert "another process runs this very training" in twins[0].warnings[0]
    with safe_open(folder_in(tmp_path) / STATE, "pt") as file:
        assert json.loads(file.metadata()["progress"])["step"] == CONFIG.steps


def test_a_state_of_the_released_layout_is_refused_or_left_alone(
    small_flow, encoded, tmp_path
) -> None:
    for name in ("banks.safetensors", STATE):
        (tmp_path / name).write_bytes(b"old")
    with pytest.raises(ValueError, match=r"Got banks\.safetensors \(of an older version\).*anew"):
        train(small_flow, encoded, Checkpoint(tmp_path, strict=True))
    checkpoint = Checkpoint(tmp_path)
    assert equal(train(small_flow, encoded, checkpoint), train(small_flow, encoded))
    checkpoint.clear()
    assert (tmp_path / STATE).read_bytes() == b"old"


def test_of_a_name_with_folders_none_of_them_is_left(small_flow, encoded, tmp_path) -> None:
    checkpoint = Checkpoint(tmp_path / "unfinished" / "long" / "s")
    train(small_flow, encoded, checkpoint)
    checkpoint.clear()
    assert not list(tmp_path.iterdir())


# --- listed and cleared --------------------------------------------------------------------------


@pytest.fixture
def left(small_flow: Any, encoded: Any, tmp_path: Path) -> Path:
    """A folder with an unfinished training three days old, and with one of the released layout."""
    root = tmp_path / "star.unfinished"
    stopped(small_flow, encoded, root, 3)
    for path in root.rglob("*.safetensors"):
        os.utime(path, (path.stat().st_atime, path.stat().st_mtime - 3 * 86_400))
    old = tmp_path / "unfinished" / "dog"
    old.mkdir(parents=True)
    for name in ("banks.safetensors", STATE):
        (old / name).write_bytes(b"old")
    (tmp_path / "star.safetensors").write_bytes(b"a LoRA")
    return tmp_path


def test_the_command_lists_them_with_size_and_age(left: Path, capsys: Any) -> None:
    main(["--unfinished", str(left)])
    old, mine, end = capsys.readouterr().out.splitlines()
    assert old.endswith("dog: 0 MB, 0 hours old, of an older version: can't be resumed")
    assert "star.unfinished" in mine and mine.endswith("0 MB, 3 days old")
    assert end == "2 unfinished. Add --clear to remove them."


def test_the_command_clears_them_and_nothing_else(left: Path, capsys: Any) -> None:
    main(["--unfinished", str(left), "--clear"])
    assert capsys.readouterr().out.endswith("2 removed.\n")
    assert [path.name for path in left.iterdir()] == ["star.safetensors"]


def test_one_that_runs_is_not_cleared(small_flow: Any, encoded: Any, tmp_path: Path) -> None:
    checkpoint = Checkpoint(tmp_path / "unfinished")

    def on_step(report: StepReport) -> None:
        main(["--unfinished", str(tmp_path), "--clear"])

    train(small_flow, encoded, checkpoint, on_step=on_step)
    assert (folder_in(tmp_path / "unfinished") / TRAJECTORIES).exists()


def test_a_note_says_how_many_and_how_to_be_rid_of_them(left: Path) -> None:
    note = note_of(left)
    assert note.startswith(f"2 unfinished trainings lie in {left} (0 MB)")
    assert "delete that folder" in note
    assert note_of(left / "nothing") == ""


def test_a_resume_that_fails_leaves_the_state_as_it_was(
    small_flow: Any, encoded: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stopped(small_flow, encoded, tmp_path, 5)
    state = folder_in(tmp_path) / STATE
    before = state.read_bytes()
    with monkeypatch.context() as patched:
        patched.setattr(Training, "resume", fail)
        with pytest.raises(MemoryError):
            train(small_flow, encoded, Checkpoint(tmp_path))
    assert state.read_bytes() == before
    whole = train(small_flow, encoded)
    assert equal(train(small_flow, encoded, Checkpoint(tmp_path)), whole)


def fail(self: Training, saved: Any) -> None:
    raise MemoryError


def test_beginning_anew_leaves_another_model_s_state_alone(
    small_flow: Any, encoded: Any, tmp_path: Path
) -> None:
    stopped(small_flow, encoded, tmp_path, 5)
    first = folder_in(tmp_path)
    before = {path.name: path.read_bytes() for path in first.glob("*.safetensors")}
    with pytest.raises(KeyboardInterrupt):
        anew = Checkpoint(tmp_path, resume=False)
        train(type(small_flow)(seed=1), encoded, anew, on_step=stop_at(3))
    assert {path.name: path.read_bytes() for path in first.glob("*.safetensors")} == before
    assert sorted(path.name for path in tmp_path.iterdir()) == [first.name, f"{first.name}-2"]


def test_one_that_runs_beside_another_model_s_is_not_cleared(
    small_flow: Any, encoded: Any, tmp_path: Path
) -> None:
    stopped(small_flow, encoded, tmp_path / "unfinished", 5)
    cleared: list[str] = []

    def on_step(report: StepReport) -> None:
        if report.step == 4:
            cleared.extend(one.folder.name for one in clear(unfinished_in(tmp_path)))

    checkpoint = Checkpoint(tmp_path / "unfinished", every=2)
    train(type(small_flow)(seed=1), encoded, checkpoint, on_step=on_step)
    assert cleared == []
    assert len(clear(unfinished_in(tmp_path))) == 2
