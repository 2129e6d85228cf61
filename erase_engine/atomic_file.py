"""Files that are there as a whole or not at all."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from shutil import rmtree
from tempfile import mkdtemp

from filelock import FileLock

LOCK = ".writing.lock"
ABANDONED = 3600  # seconds: a draft that is so old is of a process that was killed


@contextmanager
def atomic_file(path: Path) -> Iterator[Path]:
    """A draft that takes the name `path` at the end of the `with`; an error leaves nothing.

    The draft has a folder of its own, because who writes it may put further files beside it
    (safetensors does). A killed process leaves that folder; the next one that writes this file
    takes it away. One process at a time may write this file.
    """
    folder = path.with_name(f".{path.name}.writing")
    rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    draft = folder / "draft"  # without an ending by which hosts would list it
    try:
        yield draft
        os.replace(draft, path)
    finally:
        rmtree(folder, ignore_errors=True)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """As `atomic_file`, for a name that is taken once, whichever process comes first.

    Raises FileExistsError, and leaves the file as it is, where another process has taken the name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(mkdtemp(prefix=f".{path.name}.", suffix=".writing", dir=path.parent))
    draft = folder / "draft"
    try:
        yield draft
        _claim(draft, path)
    finally:
        rmtree(folder, ignore_errors=True)


def remove_abandoned(folder: Path) -> None:
    """Takes away what killed processes have left in a folder; call it once a run."""
    for old in folder.glob(".*.writing"):
        with suppress(OSError):
            if old.stat().st_mtime < time.time() - ABANDONED:
                rmtree(old, ignore_errors=True)


def _claim(draft: Path, path: Path) -> None:
    """Gives the draft its name; FileExistsError where that is taken."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        lock = path.with_name(LOCK)
        with FileLock(lock):  # which ends with its process
            taken = os.path.lexists(path)
            if not taken:
                os.replace(draft, path)
            with suppress(OSError):  # removed while it is held: who comes next makes a new one
                lock.unlink()
        if taken:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path)) from None
