"""Files that are there as a whole or not at all, whatever stops their writing."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from erase_engine.atomic_file import ABANDONED, atomic_file, new_file, remove_abandoned

FILES = 100  # of two writers


def test_a_file_takes_its_name_at_the_end(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "a.txt"
    with atomic_file(path) as draft:
        draft.write_text("new")
        assert not path.exists()
    assert path.read_text() == "new" and [*path.parent.iterdir()] == [path]


@pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
def test_an_error_leaves_what_was_there(tmp_path: Path, error: type[BaseException]) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(error), atomic_file(path) as draft:
        draft.write_text("half")
        (draft.parent / "beside").write_text("of the library that writes")
        raise error
    assert path.read_text() == "old" and [*tmp_path.iterdir()] == [path]


KILLED = """
import os, signal, sys
from pathlib import Path
from erase_engine.atomic_file import atomic_file
with atomic_file(Path(sys.argv[1])) as draft:
    draft.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_leaves_a_draft_that_the_next_one_takes_away(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    done = subprocess.run([sys.executable, "-c", KILLED, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert path.read_text() == "old" and len(os.listdir(tmp_path)) == 2
    with atomic_file(path) as draft:
        assert not draft.exists()
        draft.write_text("new")
    assert path.read_text() == "new" and [*tmp_path.iterdir()] == [path]


@pytest.mark.parametrize("links", [True, False])
def test_a_new_file_s_name_is_taken_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, links: bool
) -> None:
    """Another process takes the name while this one writes; not every disk has hard links."""
    if not links:
        monkeypatch.setattr(os, "link", no_link)
    path = tmp_path / "deep" / "a.txt"
    with pytest.raises(FileExistsError), new_file(path) as mine:
        mine.write_text("mine")
        with new_file(path) as other:
            other.write_text("first")
    assert path.read_text() == "first" and [*path.parent.iterdir()] == [path]


def no_link(*names: Path) -> None:
    raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))


KILLED_IN_CLAIM = """
import os, signal, sys
from pathlib import Path
from erase_engine.atomic_file import new_file
def no_link(*names): raise PermissionError
def killed(*names): os.kill(os.getpid(), signal.SIGKILL)
os.link, os.replace = no_link, killed
with new_file(Path(sys.argv[1])) as draft:
    draft.write_text("new")
"""


def test_a_process_killed_on_a_disk_without_links_takes_no_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.txt"
    done = subprocess.run([sys.executable, "-c", KILLED_IN_CLAIM, str(path)], check=False)
    assert done.returncode == -signal.SIGKILL and not path.exists()
    monkeypatch.setattr(os, "link", no_link)
    with new_file(path) as draft:
        draft.write_text("new")
    assert path.read_text() == "new"


def take_all(folder: Path, written: Any) -> None:
    """Writes its number into every file whose name it gets, on a slow disk without links."""
    replace = os.replace

    def slowly(*names: Path) -> None:
        time.sleep(0.002)
        replace(*names)

    os.link, os.replace = no_link, slowly
    for number in range(FILES):
        with suppress(FileExistsError):
            with new_file(folder / f"{number}.txt") as draft:
                draft.write_text(str(os.getpid()))
            written.put(os.getpid())


def test_two_processes_lose_no_file_on_a_disk_without_links(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    written = context.Queue()
    writers = [context.Process(target=take_all, args=(tmp_path, written)) for _ in range(2)]
    for each in writers:
        each.start()
    told = Counter(str(written.get(timeout=60)) for _ in range(FILES))
    for each in writers:
        each.join(60)
    assert [each.exitcode for each in writers] == [0, 0] and written.empty()
    assert Counter(path.read_text() for path in tmp_path.glob("*.txt")) == told


def test_an_old_draft_of_a_killed_process_is_taken_away(tmp_path: Path) -> None:
    old, running = tmp_path / ".b.txt.x.writing", tmp_path / ".b.txt.y.writing"
    for folder in (old, running):
        folder.mkdir()
        (folder / "draft").write_text("half")
    before = old.stat().st_mtime - ABANDONED - 1
    os.utime(old, (before, before))
    remove_abandoned(tmp_path)
    assert not old.exists() and running.exists()
    remove_abandoned(tmp_path / "gone")
