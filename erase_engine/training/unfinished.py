"""Folders that stopped trainings have left: found, told with size and age, and cleared."""

from __future__ import annotations

import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from ..memory import gigabytes
from .checkpoint import LOCK, OLD_TRAJECTORIES, STATE, TRAJECTORIES, remove_empty

NAMES = (TRAJECTORIES, OLD_TRAJECTORIES, STATE)


@dataclass(frozen=True)
class Unfinished:
    """One training's folder."""

    folder: Path
    size: int  # bytes
    age: float  # seconds since it was last saved
    old: bool  # of an older version: nothing goes on from it

    def describe(self) -> str:
        hours = self.age / 3600
        age = f"{hours / 24:.0f} days" if hours >= 48 else f"{hours:.0f} hours"
        old = ", of an older version: can't be resumed" if self.old else ""
        return f"{self.folder}: {gigabytes(self.size)}, {age} old{old}"


def unfinished_in(root: Path) -> list[Unfinished]:
    """Those in folders named unfinished in or below `root`, the newest first."""
    root = root.resolve()
    roots = [root] if root.name.endswith("unfinished") else list(root.rglob("*unfinished"))
    folders = {path.parent for each in roots for name in NAMES for path in each.rglob(name)}
    return sorted(filter(None, map(_told, folders)), key=lambda one: one.age)


def clear(found: Sequence[Unfinished]) -> list[Unfinished]:
    """Removes them, but for those of a training that runs just now; returns what was removed."""
    removed = []
    for one in found:
        lock = FileLock(one.folder / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        for name in NAMES:  # folders beside these are other trainings'
            (one.folder / name).unlink(missing_ok=True)
        for draft in one.folder.glob(".*.writing"):
            shutil.rmtree(draft, ignore_errors=True)
        lock.release()
        (one.folder / LOCK).unlink(missing_ok=True)
        remove_empty(one.folder)
        removed.append(one)
    return removed


def note_of(root: Path) -> str:
    """A sentence about what lies in `root`, and how to be rid of it; "" where nothing does."""
    found = unfinished_in(root)
    if not found:
        return ""
    one, old = len(found) == 1, sum(each.old for each in found)
    count = "1 unfinished training lies" if one else f"{len(found)} unfinished trainings lie"
    resumed = f" ({old} of an older version can't be resumed)" if old else ""
    return (
        f"{count} in {root} ({gigabytes(sum(each.size for each in found))}): run the same "
        f"training again to go on with it{resumed}, or delete that folder."
    )


def _told(folder: Path) -> Unfinished | None:
    """None where the folder can't be read, or has just been cleared."""
    try:
        stats = [path.stat() for path in folder.iterdir() if path.is_file()]
    except OSError:
        return None
    if not stats:
        return None
    return Unfinished(
        folder,
        size=sum(each.st_size for each in stats),
        age=time.time() - max(each.st_mtime for each in stats),
        old=not (folder / TRAJECTORIES).exists(),
    )
