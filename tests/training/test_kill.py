"""A process killed at the worst moments leaves nothing half-written, and what it can go on from."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from erase_engine.config import EraseConfig, LossWeights
from erase_engine.lora.file import save_lora
from erase_engine.training.checkpoint import STATE, TRAJECTORIES, Checkpoint
from erase_engine.training.encoded_prompts import EncodedPrompts
from erase_engine.training.loop import StepReport, train_erasure

CONFIG = EraseConfig(
    weights=LossWeights(esd=1.0, attention=0.1, keep=1.0),
    steps=12,
    batch=4,
    trajectories=8,
    trajectory_steps=4,
    width=64,
    height=64,
)
EVERY = 3  # steps between two states
LORA = "star.safetensors"
OnStep = Callable[[StepReport], None]


def run(
    backend: object, encoded: EncodedPrompts, folder: Path, on_step: OnStep, *, claims: bool = False
) -> None:
    """What every caller does: train, save the LoRA, clear the checkpoint.

    One that `claims` the name leaves a LoRA that is there as it is.
    """
    checkpoint = Checkpoint(folder / "unfinished", every=EVERY)
    generator = torch.Generator().manual_seed(0)
    erasure = train_erasure(
        backend,  # type: ignore[arg-type]
        encoded,
        CONFIG,
        generator=generator,
        on_step=on_step,
        checkpoint=checkpoint,
    )
    if not (claims and (folder / LORA).exists()):
        save_lora(folder / LORA, erasure.state, {}, overwrite=not claims)
    checkpoint.clear()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@dataclass(frozen=True)
class Kill:
    """A moment at which the process ends without warning, and what is there then.

    In the writing of a file: with half of it on the disk, or just after it has got its name.
    """

    file: str = ""
    time: int = 1  # of the file's writings
    half: bool = False
    step: int = 0  # or after this step was told, if not 0
    claims: bool = False  # the LoRA's name, as nodes and the command do
    clearing: bool = False  # or when the first file of the checkpoint has been removed
    left: tuple[str, ...] = ()
    begins: int = 1  # the first step that is done again


KILLS = {
    "banks half written": Kill(TRAJECTORIES, half=True),
    "banks written": Kill(TRAJECTORIES, left=(TRAJECTORIES,)),
    "first state half written": Kill(STATE, half=True, left=(TRAJECTORIES,)),
    "third state half written": Kill(
        STATE, time=3, half=True, left=(TRAJECTORIES, STATE), begins=7
    ),
    "third state written": Kill(STATE, time=3, left=(TRAJECTORIES, STATE), begins=10),
    "between two states": Kill(step=8, left=(TRAJECTORIES, STATE), begins=7),
    "after the last step": Kill(step=12, left=(TRAJECTORIES, STATE), begins=13),
    "LoRA half written": Kill(LORA, half=True, left=(TRAJECTORIES, STATE), begins=13),
    "LoRA written": Kill(LORA, left=(TRAJECTORIES, STATE, LORA), begins=13),
    "claimed LoRA half written": Kill(
        LORA, half=True, claims=True, left=(TRAJECTORIES, STATE), begins=13
    ),
    "claimed LoRA written": Kill(LORA, claims=True, left=(TRAJECTORIES, STATE, LORA), begins=13),
    "half cleared": Kill(clearing=True),
}


def prepare(kill: Kill) -> OnStep:
    """Lays the trap in this process; the callback for its training."""
    remove, times = os.unlink, 0

    def named(by: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
        """What gives a draft its name, and the trap."""

        def name(draft: Path, path: Path) -> None:
            nonlocal times
            times += path.name == kill.file
            here = path.name == kill.file and times == kill.time
            if here and kill.half:
                os.truncate(draft, os.path.getsize(draft) // 2)
                die()
            by(draft, path)
            if here:
                die()

        return name

    def unlink(path: str, **options: int) -> None:
        remove(path, **options)
        if kill.clearing and path in (TRAJECTORIES, STATE):
            die()

    def on_step(report: StepReport) -> None:
        if kill.step and report.step == kill.step:
            die()

    os.replace, os.link, os.unlink = named(os.replace), named(os.link), unlink
    return on_step


def killed(kill: Kill, work: Callable[[OnStep], None]) -> None:
    """Does the work in a process of its own, which must come to the moment of its end."""
    child = os.fork()
    if not child:
        try:
            work(prepare(kill))
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def files(folder: Path) -> set[str]:
    """Names of the files that anybody would take for whole ones."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.name for path in found if not hidden(path.relative_to(folder))}


@pytest.mark.parametrize("name", KILLS)
def test_a_killed_training_ends_in_the_same_file(name, small_flow, encoded, tmp_path) -> None:
    kill, whole, folder = KILLS[name], tmp_path / "whole", tmp_path / "killed"
    run(small_flow, encoded, whole, lambda report: None)
    claims = kill.claims
    killed(kill, lambda on_step: run(small_flow, encoded, folder, on_step, claims=claims))
    if kill.clearing:
        assert LORA in files(folder) and len(files(folder) & {TRAJECTORIES, STATE}) == 1
    else:
        assert files(folder) == set(kill.left)
    steps: list[int] = []
    run(small_flow, encoded, folder, lambda report: steps.append(report.step), claims=claims)
    begun = [step for step in steps if step]  # 0 while the bank is sampled
    assert kill.clearing or begun == list(range(kill.begins, CONFIG.steps + 1))
    assert (folder / LORA).read_bytes() == (whole / LORA).read_bytes()
    drafts = {path for path in folder.iterdir() if hidden(path.relative_to(folder))}
    assert len(drafts) == claims  # of the killed process; who saves an hour later clears it away
    assert [path.name for path in {*folder.iterdir()} - drafts] == [LORA]
