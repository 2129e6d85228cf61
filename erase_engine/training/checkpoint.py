"""Where a stopped training goes on: a folder with its trajectories and its state between two steps.

Both files are safetensors. Trajectories are written once, the state every few steps and when
training is stopped, each whole or not at all: whenever a process is killed, the last one is good.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..atomic_file import atomic_file
from ..config import EraseConfig
from .encoded_prompts import EncodedPrompts
from .teacher import Trajectories
from .trajectories import TrajectoryCache

TRAJECTORIES, STATE = "trajectories.safetensors", "state.safetensors"
SAVED_EVERY = 20  # steps


@dataclass(frozen=True)
class Snapshot:
    """What the next step depends on besides the trajectories, and the figures so far."""

    step: int  # steps that are done
    forwards: int
    history: dict[str, list[float]]  # the training's own, a value for each step that is done
    lora: dict[str, Tensor]  # as `LoraSet.state_dict`
    solver: dict[str, Tensor]  # optimizer, multiplier
    generator: Tensor  # state of the random numbers


@dataclass(frozen=True)
class SavedTrajectories:
    """Trajectories, and how things stood when they had been sampled."""

    trajectories: Trajectories
    generator: Tensor  # state of the random numbers
    forwards: int


class Checkpoint:
    """A folder that a training leaves behind when it is stopped, and goes on from.

    Args:
        folder: made when there is something to keep; `clear` it when the LoRA is saved.
        resume: go on from what the folder holds, if it is this very training's.
        strict: raise ValueError where it holds another training, instead of starting anew.
        every: steps between two savings.
    """

    def __init__(
        self, folder: Path, *, resume: bool = True, strict: bool = False, every: int = SAVED_EVERY
    ) -> None:
        self.folder, self.resume, self.strict, self.every = folder, resume, strict, every
        self.latest: Snapshot | None = None  # for whoever wants the LoRA of a stopped training
        self._identity = ""

    def begin(self, encoded: EncodedPrompts, config: EraseConfig) -> None:
        """Says which training this is; to be called first."""
        self._identity = identity_of(encoded, config)

    def load_trajectories(self) -> SavedTrajectories | None:
        """The trajectories; None where there are none of this training."""
        loaded = self._load(TRAJECTORIES)
        if loaded is None:
            return None
        tensors, record = loaded
        erase, keep = (_under(f"{name}.", tensors) for name in ("erase", "keep"))
        found = Trajectories(TrajectoryCache(**erase), TrajectoryCache(**keep) if keep else None)
        return SavedTrajectories(found, tensors["generator"], int(record["forwards"]))

    def save_trajectories(self, saved: SavedTrajectories) -> None:
        """Keeps new trajectories; a state that belongs to older ones is removed before."""
        (self.folder / STATE).unlink(missing_ok=True)
        tensors = {"generator": saved.generator}
        for name in ("erase", "keep"):
            cache = getattr(saved.trajectories, name)
            if cache is not None:
                tensors |= {f"{name}.{one.name}": getattr(cache, one.name) for one in fields(cache)}
        self._save(TRAJECTORIES, tensors, {"forwards": str(saved.forwards)})

    def load(self) -> Snapshot | None:
        """The state of the last saving; None where there is none of ours."""
        found = self._load(STATE)
        if found is None:
            return None
        tensors, record = found
        self.latest = Snapshot(
            **json.loads(record["progress"]),
            lora=_under("lora.", tensors),
            solver=_under("solver.", tensors),
            generator=tensors["generator"],
        )
        return self.latest

    def follow(self, snapshot: Snapshot) -> None:
        """Takes note of a step that is done; saves it when it is time."""
        self.latest = snapshot
        if snapshot.step % self.every == 0:
            self.save()

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Whatever stops the training inside, its last state is saved."""
        try:
            yield
        except BaseException:  # cancelling is no Exception on newer hosts
            self.save()
            raise

    def save(self) -> None:
        """Writes the state after the last step that was done."""
        last = self.latest
        if last is None:
            return
        tensors = {f"lora.{key}": value for key, value in last.lora.items()}
        tensors |= {f"solver.{key}": value for key, value in last.solver.items()}
        # A signal may fall between a step's losses and its state: the losses wait for the state.
        history = {name: values[: last.step] for name, values in last.history.items()}
        told = {"step": last.step, "forwards": last.forwards, "history": history}
        record = {"progress": json.dumps(told)}
        self._save(STATE, tensors | {"generator": last.generator}, record)

    def clear(self) -> None:
        """Removes the folder."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _save(self, name: str, tensors: Mapping[str, Tensor], record: dict[str, str]) -> None:
        whole = {key: value.contiguous() for key, value in tensors.items()}
        with atomic_file(self.folder / name) as draft:
            save_file(whole, draft, {**record, "identity": self._identity})

    def _load(self, name: str) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """Tensors and record of a file of this training; else None, or ValueError where strict."""
        path = self.folder / name
        if not self.resume or not path.exists():
            return None
        try:
            with safe_open(path, "pt") as file:
                record = file.metadata() or {}
                if record.get("identity") == self._identity:
                    return {key: file.get_tensor(key) for key in file.keys()}, record  # noqa: SIM118
            why = "another concept, other settings or other text encoders"
        except SafetensorError as error:
            why = f"is damaged: {error}"
        return self.refuse(f"{path.name} ({why})")

    def refuse(self, found: str) -> None:
        """ValueError where strict: what was found can't be gone on from."""
        if self.strict:
            raise ValueError(
                f"Got {found} in {self.folder}, expected this very training's. Use the model, "
                "the concept and the settings it was begun with, or begin anew without resuming."
            )


def identity_of(encoded: EncodedPrompts, config: EraseConfig) -> str:
    """One name for one training: a hash of its config and of its prompts as the model reads them.

    The model is not in it: it is recognised by its velocities (`teacher.same_teacher`).
    """
    found = hashlib.sha256(config.to_json().encode())
    parts = [encoded.concept, encoded.anchor, encoded.keep]
    prompts = [prompt for part in parts for prompt in part.prompts]
    features = [each for prompt in prompts for each in (prompt.text, prompt.pooled)]
    for tensor in (encoded.tokens.concept, encoded.tokens.context, *features):
        if tensor is None:  # a family without pooled vectors
            continue
        found.update(str(tuple(tensor.shape)).encode())
        found.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return found.hexdigest()


def _under(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors whose names begin so, without it."""
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
