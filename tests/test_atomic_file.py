"""Files that are there as a whole or not at all, whatever stops their writing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from erase_engine.atomic_file import ABANDONED, atomic_file, new_file


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


def test_an_old_draft_of_a_killed_process_is_taken_away(tmp_path: Path) -> None:
    old, running = tmp_path / ".b.txt.x.writing", tmp_path / ".b.txt.y.writing"
    for folder in (old, running):
        folder.mkdir()
        (folder / "draft").write_text("half")
    before = old.stat().st_mtime - ABANDONED - 1
    os.utime(old, (before, before))
    with new_file(tmp_path / "a.txt") as draft:
        draft.write_text("new")
    assert not old.exists() and running.exists()
