"""Stopped and gone on is the same as never stopped; what stops a training leaves its state."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open

from erase_engine.config import EraseConfig, LossWeights
from erase_engine.training.checkpoint import STATE, TRAJECTORIES, Checkpoint, identity_of
from erase_engine.training.encoded_prompts import EncodedPrompts
from erase_engine.training.loop import Erasure, StepReport, train_erasure

CONFIG = EraseConfig(
    weights=LossWeights(esd=1.0, attention=0.1, keep=1.0, rsc=0.01),
    steps=9,
    batch=4,
    learning_rate=0.02,
    cooldown=0.5,
    budget_every=2,
    trajectories=4,
    trajectory_steps=4,
    width=32,
    height=32,
)


def train(
    backend: Any, encoded: EncodedPrompts, checkpoint: Checkpoint | None = None, **changes: Any
) -> Erasure:
    on_step = changes.pop("on_step", lambda report: None)
    config = replace(CONFIG, **changes)
    generator = torch.Generator().manual_seed(config.seed)
    return train_erasure(
        backend, encoded, config, generator=generator, on_step=on_step, checkpoint=checkpoint
    )


def stop_at(step: int) -> Any:
    def on_step(report: StepReport) -> None:
        if report.step == step:
            raise KeyboardInterrupt

    return on_step


def stopped(backend: Any, encoded: EncodedPrompts, folder: Path, step: int, **changes: Any) -> None:
    with pytest.raises(KeyboardInterrupt):
        train(backend, encoded, Checkpoint(folder), on_step=stop_at(step), **changes)


def equal(one: Erasure, other: Erasure) -> bool:
    same = all(torch.equal(one.state[key], other.state[key]) for key in one.state)
    return same and one.history == other.history and one.forwards == other.forwards


@pytest.mark.parametrize("solver", ["alternate", "budget"])
@pytest.mark.parametrize("step", [1, 6, 9])
def test_gone_on_is_never_stopped(small_flow, encoded, tmp_path, solver, step) -> None:
    whole = train(small_flow, encoded, solver=solver)
    stopped(small_flow, encoded, tmp_path, step, solver=solver)
    begun: list[StepReport] = []
    gone_on = train(small_flow, encoded, Checkpoint(tmp_path), solver=solver, on_step=begun.append)
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
        if (tmp_path / STATE).exists():
            kept[report.step] = (tmp_path / STATE).read_bytes()

    whole = train(small_flow, encoded, Checkpoint(tmp_path, every=4), on_step=on_step)
    (tmp_path / STATE).write_bytes(kept[6])  # of step 4
    assert equal(train(small_flow, encoded, Checkpoint(tmp_path)), whole)


@pytest.mark.parametrize("changes", [{"learning_rate": 0.01}, {"seed": 1}, {"steps": 8}])
def test_another_training_starts_anew(small_flow, encoded, tmp_path, changes) -> None:
    stopped(small_flow, encoded, tmp_path, 6)
    with pytest.raises(ValueError, match=r"Got trajectories.*other settings.*begin anew"):
        train(small_flow, encoded, Checkpoint(tmp_path, strict=True), **changes)
    anew = train(small_flow, encoded, Checkpoint(tmp_path), **changes)
    assert equal(anew, train(small_flow, encoded, **changes))


def test_another_model_starts_anew(small_flow, encoded, tmp_path) -> None:
    stopped(small_flow, encoded, tmp_path, 6)
    small_flow.leave.weight.mul_(1.01)
    with pytest.raises(ValueError, match="Got trajectories of another model"):
        train(small_flow, encoded, Checkpoint(tmp_path, strict=True))
    anew = train(small_flow, encoded, Checkpoint(tmp_path))
    assert equal(anew, train(small_flow, encoded))


def test_a_damaged_file_is_not_gone_on_from(small_flow, encoded, tmp_path) -> None:
    stopped(small_flow, encoded, tmp_path, 6)
    data = (tmp_path / STATE).read_bytes()
    (tmp_path / STATE).write_bytes(data[: len(data) // 2])
    with pytest.raises(ValueError, match=r"Got state.safetensors \(is damaged"):
        train(small_flow, encoded, Checkpoint(tmp_path, strict=True))
    assert equal(train(small_flow, encoded, Checkpoint(tmp_path)), train(small_flow, encoded))


def test_the_files_are_safetensors_and_nothing_half_written(small_flow, encoded, tmp_path) -> None:
    stopped(small_flow, encoded, tmp_path, 6)
    assert sorted(path.name for path in tmp_path.iterdir()) == [STATE, TRAJECTORIES]
    with safe_open(tmp_path / STATE, "pt") as file:
        told = json.loads(file.metadata()["progress"])
    assert told["step"] == 6 and len(told["history"]["esd"]) == 6


def poison(small_flow: Any, step: int, times: int) -> Any:
    """The model gives NaN for the next passes after a step, as an overflow would."""
    healthy, left = small_flow.velocity, [0]

    def velocity(*args: Any, **kwargs: Any) -> torch.Tensor:
        v = healthy(*args, **kwargs)
        if left[0] and v.requires_grad:
            left[0] -= 1
            return v * float("nan")
        return v

    def on_step(report: StepReport) -> None:
        if report.step == step:
            left[0] = times

    small_flow.velocity = velocity
    return on_step


def test_one_nan_is_tried_again_from_the_last_good_state(small_flow, encoded) -> None:
    erasure = train(small_flow, encoded, on_step=poison(small_flow, 4, times=1))
    assert len(erasure.history["esd"]) == CONFIG.steps
    assert all(tensor.isfinite().all() for tensor in erasure.state.values())


def test_a_second_nan_stops_with_the_good_state_saved(small_flow, encoded, tmp_path) -> None:
    checkpoint = Checkpoint(tmp_path)
    with pytest.raises(FloatingPointError, match=r"Got nan for the esd loss in step 5"):
        train(small_flow, encoded, checkpoint, on_step=poison(small_flow, 4, times=2))
    assert checkpoint.latest and checkpoint.latest.step == 4
    saved = Checkpoint(tmp_path)
    saved.begin(encoded, CONFIG)
    found = saved.load()
    assert found and found.step == 4
    assert all(tensor.isfinite().all() for tensor in (*found.lora.values(), *found.solver.values()))


def test_identity_is_of_settings_and_prompts(encoded) -> None:
    same = identity_of(encoded, CONFIG)
    assert same == identity_of(encoded, replace(CONFIG))
    assert same != identity_of(encoded, replace(CONFIG, batch=5))
    for name in ("concept", "context"):
        flipped = getattr(encoded.tokens, name).flip(0)
        tokens = replace(encoded.tokens, **{name: flipped})
        assert same != identity_of(replace(encoded, tokens=tokens), CONFIG)
