"""Where a stopped training goes on: a folder with its trajectories and its state between two steps.

Both files are safetensors. Trajectories are written once, the state every few steps and when
training is stopped, each whole or not at all: whenever a process is killed, the last one is good.
"""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from ..atomic_file import atomic_file
from ..config import EraseConfig
from ..validation import UNREADABLE, shortened
from .disk import DiskNeed, fault_of_disk
from .encoded_prompts import EncodedPrompts
from .last_state import Snapshot, under
from .states.pictures import Pictures
from .teacher import Trajectories
from .trajectories import TrajectoryCache

TRAJECTORIES, STATE, LOCK = "trajectories.safetensors", "state.safetensors", ".lock"
OLD_TRAJECTORIES = "banks.safetensors"  # beside the state, before trainings had their own folders
FORMAT = 3  # of these files; in the identity, so that others are never read
DIGEST = "digest"  # of all the rest of a file: what has been changed is damaged
UNSAVED = "This training can't be resumed if it is stopped: {}."
MAKE_ROOM = "Make room first if it is to go on after a stop."
SAVED_EVERY = 20  # steps
DIGITS = 12  # of a folder's name
PARTS: Mapping[str, type] = {
    "erase": TrajectoryCache,
    "keep": TrajectoryCache,
    "pictures": Pictures,
}
_T = TypeVar("_T")


@dataclass(frozen=True)
class SavedTrajectories:
    """Trajectories, and how things stood when they had been sampled."""

    trajectories: Trajectories
    generator: Tensor  # state of the random numbers
    forwards: int


class Checkpoint:
    """A folder that a training leaves behind when it is stopped, and goes on from.

    Each training has a folder of its own inside `root`, named by its identity, so that trainings
    of one name leave each other alone. Saving is never a condition of training: where it can't be
    done, `warnings` says why and the training goes on without.

    Args:
        root: made when there is something to save; None saves nothing.
        resume: go on from the folder of this very training, if there is one.
        strict: raise ValueError where only other trainings' are there, instead of starting anew.
        every: steps between two savings.
    """

    def __init__(
        self,
        root: Path | None,
        *,
        resume: bool = True,
        strict: bool = False,
        every: int = SAVED_EVERY,
    ) -> None:
        self.root, self.resume, self.strict, self.every = root, resume, strict, every
        self.folder: Path | None = None  # this training's own, inside `root`
        self.latest: Snapshot | None = None  # the last one that was given to `save`
        self.warnings: list[str] = []
        self._identity, self._saves = "", True
        self._refused: list[str] = []

    def short_of(self, disk: DiskNeed) -> str:
        """A sentence where there is no room to save, before a training starts; else ""."""
        fault = "" if self.root is None else fault_of_disk(self.root, disk.checkpoint)
        return f"{UNSAVED.format(fault)} {MAKE_ROOM}" if fault else ""

    @contextmanager
    def opened(self, encoded: EncodedPrompts, config: EraseConfig) -> Iterator[None]:
        """This training's folder, locked: another process that trains the same saves nothing."""
        if self.root is None:
            yield
            return
        self._identity = identity_of(encoded, config)
        with ExitStack() as self._locks:
            self._enter(self.root / self._identity[:DIGITS])
            yield

    def load_trajectories(self) -> SavedTrajectories | None:
        """Those of this identity, resuming or not: another model's are to be left alone.

        None where there are none. Raises ValueError, where `strict`, if there are only those of
        other trainings.
        """
        found = self._load(TRAJECTORIES, _trajectories_from)
        if found is None and self.strict and self.resume:
            self._refuse_others()
        return found

    def save_trajectories(self, saved: SavedTrajectories) -> None:
        """Writes new trajectories; a state that belongs to older ones is removed before."""
        tensors = {"generator": saved.generator}
        for name in PARTS:
            part = getattr(saved.trajectories, name)
            if part is not None:
                tensors |= {f"{name}.{one.name}": getattr(part, one.name) for one in fields(part)}
        self._save(TRAJECTORIES, tensors, {"forwards": str(saved.forwards)})

    def load(self) -> Snapshot | None:
        """The state of the last saving; None where there is none of this training."""
        self.latest = self._load(STATE, _snapshot_from) if self.resume else None
        return self.latest

    def due(self, step: int) -> bool:
        """Whether to save the state after this step, should nothing go wrong before the next."""
        return self.folder is not None and self._saves and step % self.every == 0

    def save(self, snapshot: Snapshot) -> None:
        """Writes the state after a step."""
        self.latest = snapshot
        tensors = {f"lora.{key}": value for key, value in snapshot.lora.items()}
        tensors |= {f"solver.{key}": value for key, value in snapshot.solver.items()}
        told = {name: getattr(snapshot, name) for name in ("step", "forwards", "history")}
        tensors["generator"] = snapshot.generator
        self._save(STATE, tensors, {"progress": json.dumps(told)})

    def clear(self) -> None:
        """Removes this training's folder, and those above it that are then empty."""
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            remove_empty(self.folder.parent)

    def beside(self, why: str) -> None:
        """What lies in the folder is another's: this training gets the next one."""
        assert self.folder is not None
        self._refused.append(f"{self.folder.name} ({why})")
        number = len(self._refused) + 1
        self._enter(self.folder.with_name(f"{self._identity[:DIGITS]}-{number}"))

    def _enter(self, folder: Path) -> None:
        """Makes a folder this training's own, unless another process has it."""
        lock, self.folder = FileLock(folder / LOCK), None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout:
            self._stop_saving("another process runs this very training and saves it")
        except (OSError, NotImplementedError) as error:
            self._stop_saving(str(error))
        else:
            self.folder = folder
            self._locks.callback(_unlock, lock)

    def _save(self, name: str, tensors: Mapping[str, Tensor], record: dict[str, str]) -> None:
        if self.folder is None or not self._saves:
            return
        whole = {key: value.contiguous() for key, value in tensors.items()}
        try:
            if name == TRAJECTORIES:
                (self.folder / STATE).unlink(missing_ok=True)
            record = {**record, "identity": self._identity}
            with atomic_file(self.folder / name) as draft:
                save_file(whole, draft, {**record, DIGEST: _digest(whole, record)})
        except (OSError, SafetensorError) as error:
            self._stop_saving(f"{self.folder / name}: {error}")

    def _stop_saving(self, why: str) -> None:
        """Says why nothing is saved from now on; what was saved before stays."""
        self._saves = False
        self._warn(UNSAVED.format(why))

    def _warn(self, text: str) -> None:
        self.warnings.append(text)
        logging.getLogger(__name__).warning(text)

    def _load(
        self, name: str, read: Callable[[dict[str, Tensor], dict[str, str]], _T]
    ) -> _T | None:
        """What `read` makes of a file of this training; None where there is none."""
        if self.folder is None or not (self.folder / name).exists():
            return None
        try:
            with safe_open(self.folder / name, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
                record = file.metadata() or {}
            told = record.pop(DIGEST, "")
            if record.get("identity") != self._identity or told != _digest(tensors, record):
                raise ValueError("it is not as it was saved")
            return read(tensors, record)
        except (*UNREADABLE, SafetensorError) as error:
            damaged = f"{name} in {self.folder} that is damaged ({shortened(str(error))})"
            if self.strict and self.resume:
                raise ValueError(
                    f"Got {damaged}, expected what this training has saved. Begin anew without "
                    "resuming."
                ) from error
            self._warn(f"Got {damaged}: this training was begun anew.")
            return None

    def _refuse_others(self) -> None:
        """ValueError where `root` holds only what this training can't go on from."""
        assert self.root is not None
        old = [name for name in (OLD_TRAJECTORIES, STATE) if (self.root / name).exists()]
        others = [*self._refused, *(f"{name} (of an older version)" for name in old)]
        settings = "another concept, settings, text encoders or version of this pack"
        taken = {each.split(" ")[0] for each in others} | {self._identity[:DIGITS]}
        folders = sorted(path.parent.name for path in self.root.glob(f"*/{TRAJECTORIES}"))
        others += [f"{name} ({settings})" for name in folders if name not in taken]
        if others:
            raise ValueError(
                f"Got {', '.join(others)} in {self.root}, expected this very training's state. "
                "Use the model, the concept and the settings it was begun with, or begin anew "
                "without resuming."
            )


def identity_of(encoded: EncodedPrompts, config: EraseConfig) -> str:
    """One name for one training: a hash of its config, and of its prompts and pictures as encoded.

    The model is not in it: it is recognised by its velocities (`teacher.same_teacher`).
    """
    found = hashlib.sha256(f"{FORMAT} {config.to_json()}".encode())
    prompts = [
        each for part in (encoded.concept, encoded.anchor, encoded.keep) for each in part.prompts
    ]
    texts = [each for prompt in prompts for each in (prompt.text, prompt.pooled)]
    rows = encoded.entrance.tensors if encoded.entrance else ()
    tokens = encoded.tokens.concept, encoded.tokens.context
    for tensor in (*tokens, *texts, encoded.pictures, *rows):
        if tensor is not None:
            found.update(str(tuple(tensor.shape)).encode())
            found.update(tensor.detach().cpu().float().contiguous().numpy().tobytes())
    return found.hexdigest()


def _digest(tensors: Mapping[str, Tensor], record: Mapping[str, str]) -> str:
    """A hash of all that a file says."""
    found = hashlib.sha256(json.dumps(record, sort_keys=True).encode())
    for name, tensor in sorted(tensors.items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.contiguous().view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def _snapshot_from(tensors: dict[str, Tensor], record: dict[str, str]) -> Snapshot:
    lora, solver = under("lora.", tensors), under("solver.", tensors)
    told = json.loads(record["progress"])
    if not all(each.isfinite().all() for each in lora.values()):
        raise ValueError("numbers that are not finite")
    return Snapshot(**told, lora=lora, solver=solver, generator=tensors["generator"])


def _trajectories_from(tensors: dict[str, Tensor], record: dict[str, str]) -> SavedTrajectories:
    given = {name: under(f"{name}.", tensors) for name in PARTS}
    parts = {name: kind(**given[name]) for name, kind in PARTS.items() if given[name]}
    found = Trajectories(**{**dict.fromkeys(PARTS), **parts})
    return SavedTrajectories(found, tensors["generator"], int(record["forwards"]))


def remove_empty(folder: Path) -> None:
    """Removes `folder` and those above it, as far as they are empty, up to the one so named."""
    for each in (folder, *folder.parents):
        try:
            each.rmdir()
        except OSError:
            return
        if each.name.endswith("unfinished"):
            return


def _unlock(lock: FileLock) -> None:
    folder = Path(lock.lock_file).parent
    with suppress(OSError):  # removed while it is held: who comes next makes a new one
        Path(lock.lock_file).unlink()
    lock.release()
    remove_empty(folder)
