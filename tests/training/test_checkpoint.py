"""Stopped and gone on is the same as never stopped; what stops a training leaves its state."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from training_runs import CONFIG, equal, folder_in, poison, stopped, train

from erase_engine.closed_form.text_rows import Features, TextRows
from erase_engine.training.checkpoint import STATE, TRAJECTORIES, Checkpoint, identity_of
from erase_engine.training.importance import Draws
from erase_engine.training.loop import StepReport


@pytest.mark.parametrize("numbers", [{}, {"attack": 0.5}, {"importance": 0.7}], ids=str)
@pytest.mark.parametrize("solver", ["alternate", "budget"])
@pytest.mark.parametrize("step", [1, 6, 9])
def test_gone_on_is_never_stopped(small_flow, encoded, tmp_path, solver, step, numbers) -> None:
    given = {"solver": solver, **numbers}
    whole = train(small_flow, encoded, **given)
    stopped(small_flow, encoded, tmp_path, step, **given)
    begun: list[StepReport] = []
    gone_on = train(small_flow, encoded, Checkpoint(tmp_path), on_step=begun.append, **given)
    assert equal(gone_on, whole)
    assert [report.step for report in begun] == list(range(step + 1, 10))


def test_a_checkpoint_changes_nothing(small_flow, encoded, tmp_path) -> None:
    checkpoint = Checkpoint(tmp_path, every=2)
    assert equal(train(small_flow, encoded, checkpoint), train(small_flow, encoded))
    checkpoint.clear()
    assert not tmp_path.exists()


def test_trajectories_are_not_sampled_again(small_flow, encoded, tmp_path) -> None:
    """All of a training's forwards but those that were done, and one batch to know the model by."""
    stopped(small_flow, encoded, tmp_path, 6)
    done, small_flow.samples = small_flow.samples, 0
    forwards = train(small_flow, encoded, Checkpoint(tmp_path)).forwards
    assert small_flow.samples == forwards - done + 2 * CONFIG.batch


def test_the_last_periodic_state_is_enough(small_flow, encoded, tmp_path) -> None:
    """As after a kill: nobody had the time to save on the way out."""
    kept: dict[int, bytes] = {}

    def on_step(report: StepReport) -> None:
        for path in tmp_path.glob(f"*/{STATE}"):
            kept[report.step] = path.read_bytes()

    whole = train(small_flow, encoded, Checkpoint(tmp_path, every=4), on_step=on_step)
    (folder_in(tmp_path) / STATE).write_bytes(kept[6])  # of step 4
    assert equal(train(small_flow, encoded, Checkpoint(tmp_path)), whole)


@pytest.mark.parametrize("changes", [{"learning_rate": 0.01}, {"seed": 1}, {"steps": 8}])
def test_another_training_starts_anew(small_flow, encoded, tmp_path, changes) -> None:
    stopped(small_flow, encoded, tmp_path, 6)
    with pytest.raises(ValueError, match=r"Got \w+ \(another concept, settings.*begin anew"):
        train(small_flow, encoded, Checkpoint(tmp_path, strict=True), **changes)
    anew = train(small_flow, encoded, Checkpoint(tmp_path), **changes)
    assert equal(anew, train(small_flow, encoded, **changes))


def with_progress(**changes: Any) -> Any:
    def tamper(tensors: dict[str, torch.Tensor], record: dict[str, str]) -> None:
        record["progress"] = json.dumps({**json.loads(record["progress"]), **changes})

    return tamper


def without(part: str) -> Any:
    def tamper(tensors: dict[str, torch.Tensor], record: dict[str, str]) -> None:
        for name in [each for each in tensors if part in each]:
            del tensors[name]

    return tamper


def with_last(name: str, value: float) -> Any:
    def tamper(tensors: dict[str, torch.Tensor], record: dict[str, str]) -> None:
        key = next(each for each in tensors if each.startswith(name))
        tensors[key].view(-1)[-1] = value

    return tamper


def not_json(tensors: dict[str, torch.Tensor], record: dict[str, str]) -> None:
    record["progress"] = "[" * 100_000


TAMPERED = {
    "step after the last": (STATE, with_progress(step=400)),
    "step below 0": (STATE, with_progress(step=-5)),
    "a field more": (STATE, with_progress(more=1)),
    "progress of lists": (STATE, not_json),
    "no optimizer": (STATE, without("solver.")),
    "no moment": (STATE, without("exp_avg_sq")),
    "no random numbers": (STATE, without("generator")),
    "no LoRA": (STATE, without("lora.")),
    "LoRA not finite": (STATE, with_last("lora.", float("nan"))),
    "altered answer": (TRAJECTORIES, with_last("erase.teacher_velocity", 7.0)),
    "row out of range": (TRAJECTORIES, with_last("erase.rows", 999)),
    "no times": (TRAJECTORIES, without("erase.times")),
}


@pytest.mark.parametrize("case", TAMPERED)
def test_what_is_not_as_it_was_saved_is_damaged(small_flow, encoded, tmp_path, case) -> None:
    name, tamper = TAMPERED[case]
    stopped(small_flow, encoded, tmp_path, 6)
    file = folder_in(tmp_path) / name
    with safe_open(file, "pt") as opened:
        record = opened.metadata()
        tensors = {key: opened.get_tensor(key).clone() for key in opened.keys()}  # noqa: SIM118
    tamper(tensors, record)
    save_file(tensors, file, record)
    begins_anew(small_flow, encoded, tmp_path, file)


def begins_anew(small_flow: Any, encoded: Any, root: Path, file: Path) -> None:
    """The node's training says so and ends as if never stopped; the command's is refused."""
    with pytest.raises(ValueError, match=rf"Got {file.name} in .* that is damaged .*Begin anew"):
        train(small_flow, encoded, Checkpoint(root, strict=True))
    begun: list[StepReport] = []
    erasure = train(small_flow, encoded, Checkpoint(root), on_step=begun.append)
    assert next(report.step for report in begun if report.losses) == 1
    assert f"Got {file.name} in {file.parent} that is damaged" in erasure.warnings[0]
    assert equal(erasure, train(small_flow, encoded))


@pytest.mark.parametrize("name", [STATE, TRAJECTORIES])
def test_a_folder_in_a_file_s_place_is_damaged(small_flow, encoded, tmp_path, name) -> None:
    stopped(small_flow, encoded, tmp_path, 6)
    file = folder_in(tmp_path) / name
    file.unlink()
    file.mkdir()
    begins_anew(small_flow, encoded, tmp_path, file)


def test_another_model_starts_anew(small_flow, encoded, tmp_path) -> None:
    stopped(small_flow, encoded, tmp_path, 6)
    small_flow.leave.weight.mul_(1.01)
    with pytest.raises(ValueError, match=r"Got \w+ \(trajectories of another model\)"):
        train(small_flow, encoded, Checkpoint(tmp_path, strict=True))
    anew = train(small_flow, encoded, Checkpoint(tmp_path))
    assert equal(anew, train(small_flow, encoded))


def test_a_damaged_file_is_not_gone_on_from(small_flow, encoded, tmp_path) -> None:
    stopped(small_flow, encoded, tmp_path, 6)
    state = folder_in(tmp_path) / STATE
    state.write_bytes(state.read_bytes()[: state.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"Got state.safetensors in .* that is damaged"):
        train(small_flow, encoded, Checkpoint(tmp_path, strict=True))
    assert equal(train(small_flow, encoded, Checkpoint(tmp_path)), train(small_flow, encoded))


def test_the_files_are_safetensors_and_nothing_half_written(small_flow, encoded, tmp_path) -> None:
    stopped(small_flow, encoded, tmp_path, 6)
    folder = folder_in(tmp_path)
    assert sorted(path.name for path in folder.iterdir()) == [STATE, TRAJECTORIES]
    with safe_open(folder / STATE, "pt") as file:
        told = json.loads(file.metadata()["progress"])
    assert told["step"] == 6 and len(told["history"]["esd"]) == 6


def test_draws_go_by_the_losses_that_there_were(small_flow, encoded, tmp_path) -> None:
    checkpoint = Checkpoint(tmp_path)
    train(small_flow, encoded, checkpoint, importance=0.7)
    assert checkpoint.latest
    for kind in ("erase", "keep"):
        left = checkpoint.latest.solver[f"{kind}.left"]
        assert (left != 1).any() and left.isfinite().all()


def test_every_loss_on_states_counts_as_its_draws_do(small_flow, encoded, monkeypatch) -> None:
    monkeypatch.setattr(Draws, "counted", lambda self, losses: 7 + 0 * losses)
    history = train(small_flow, encoded, importance=0.7).history
    for name in ("esd", "attention", "keep"):
        assert history[name] == [7] * CONFIG.steps
    assert history["rsc"][0] != 7


@pytest.mark.parametrize("importance", [0.0, 0.7])
@pytest.mark.parametrize("step", [0, 4])
def test_one_nan_is_tried_again_from_the_last_good_state(
    small_flow, encoded, step: int, importance: float
) -> None:
    on_step = poison(small_flow, step, times=1)
    erasure = train(small_flow, encoded, on_step=on_step, importance=importance)
    assert len(erasure.history["esd"]) == CONFIG.steps
    assert all(tensor.isfinite().all() for tensor in erasure.state.values())


def test_a_second_nan_stops_with_the_good_state_saved(small_flow, encoded, tmp_path) -> None:
    checkpoint = Checkpoint(tmp_path)
    with pytest.raises(FloatingPointError, match=r"Got nan for the esd loss in step 5"):
        train(
            small_flow, encoded, checkpoint, on_step=poison(small_flow, 4, times=4)
        )  # two passes with a gradient in each try
    assert checkpoint.latest and checkpoint.latest.step == 4
    saved = Checkpoint(tmp_path)
    with saved.opened(encoded, CONFIG):
        found = saved.load()
    assert found and found.step == 4
    assert all(tensor.isfinite().all() for tensor in (*found.lora.values(), *found.solver.values()))


def test_identity_is_of_settings_and_prompts(encoded) -> None:
    same = identity_of(encoded, CONFIG)
    assert same == identity_of(encoded, replace(CONFIG))
    assert same != identity_of(encoded, replace(CONFIG, batch=5))
    rows = [torch.ones(2, 8), torch.zeros(2, 8), torch.ones(2, dtype=torch.bool), torch.ones(5, 8)]
    solved = [TextRows(Features(*rows[:3], each), None) for each in (rows[3], 2 * rows[3])]
    each = [identity_of(replace(encoded, entrance=one), CONFIG) for one in (None, *solved)]
    assert len({*each}) == 3
    for name in ("concept", "context"):
        flipped = getattr(encoded.tokens, name).flip(0)
        tokens = replace(encoded.tokens, **{name: flipped})
        assert same != identity_of(replace(encoded, tokens=tokens), CONFIG)
