"""Changes lines of the pack, one at a time, and says which changes no test notices.

The list is tests/mutations.toml. Each line is changed in a copy of the tree, and the test that
should notice it is run there. Before that all of these tests are run without a change: one that
fails anyway notices nothing. With --check it only looks whether every text is in its file once.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import tomllib

ROOT = Path(__file__).resolve().parent.parent
LIST = Path("tests", "mutations.toml")
LIMIT = 900  # seconds for a test: a change that makes it wait for ever is noticed, too
PASSED = (0, 5)  # pytest's exit status; with 5 there was no test, which notices nothing
# Made by the set-up: the copy has links to them, and nothing in them is changed.
LINKED = (".venv", ".comfyui", ".checkers", ".newest_page")
LEFT_OUT = (*LINKED, ".git", ".*_cache", "__pycache__", "node_modules", "output")
PACKAGES = ("erase_engine", "tinyworld")  # installed: without more, tests would import ROOT's


@dataclass(frozen=True)
class Mutation:
    """A text in a file, what comes in its place, and the test that should fail then."""

    file: str
    old: str
    new: str
    why: str  # what would go wrong for a user
    test: str
    survives: str = ""  # why it may

    def fits(self, root: Path) -> bool:
        """Whether the text is in its file exactly once."""
        return (root / self.file).read_text(encoding="utf-8").count(self.old) == 1


def read_list(path: Path) -> list[Mutation]:
    """The list's entries, in order."""
    return [Mutation(**each) for each in tomllib.loads(path.read_text("utf-8"))["mutation"]]


class Copy:
    """A copy of the tree, in which files are changed and tests run."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.tree, packages = folder / root.name, folder / "packages"
        shutil.copytree(root, self.tree, ignore=shutil.ignore_patterns(*LEFT_OUT))
        for name in LINKED:
            if (root / name).exists():
                (self.tree / name).symlink_to((root / name).resolve())
        packages.mkdir()
        for name in PACKAGES:
            (packages / name).symlink_to(self.tree / name)
        # Compiled files are known by second and size: a change may leave both as they were.
        own = {"PYTHONPATH": str(packages), "PYTHONDONTWRITEBYTECODE": "1"}
        self._env = {**os.environ, **own}

    def pytest(self, *words: str, limit: float | None = None) -> subprocess.CompletedProcess[str]:
        """A run of tests on the files as they are now."""
        program = str(Path(sys.executable).with_name("pytest"))
        command = [program, "-q", "-n", "0", "-p", "no:cacheprovider", *words]
        return subprocess.run(
            command, cwd=self.tree, env=self._env, capture_output=True, text=True, timeout=limit
        )

    def failing(self, tests: Sequence[str]) -> list[str]:
        """Which of the tests, or of their cases, fail."""
        done = self.pytest("-rfE", "--continue-on-collection-errors", *dict.fromkeys(tests))
        if done.returncode not in (0, 1):
            sys.exit(f"The tests can't be run:\n{done.stdout}{done.stderr}")
        found = re.findall(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
        return [test for test in tests if any(one.startswith(test) for one in found)]

    @contextmanager
    def changed(self, mutation: Mutation) -> Iterator[None]:
        """The file has the new text for the time of the `with`."""
        file = self.tree / mutation.file
        before = file.read_text(encoding="utf-8")
        try:
            file.write_text(before.replace(mutation.old, mutation.new), encoding="utf-8")
            yield
        finally:
            file.write_text(before, encoding="utf-8")

    def is_caught(self, mutation: Mutation) -> bool:
        """Whether the test fails with the change, or never ends."""
        with self.changed(mutation):
            try:
                return self.pytest("-x", mutation.test, limit=LIMIT).returncode not in PASSED
            except subprocess.TimeoutExpired:
                return True


def main(arguments: Sequence[str], root: Path = ROOT) -> int:
    """The exit status: 1 where a change survived that has no reason to."""
    made = argparse.ArgumentParser(description=__doc__)
    made.add_argument("--check", action="store_true", help="only look whether the list fits")
    made.add_argument("--only", default="", metavar="TEXT", help="files whose names contain it")
    made.add_argument("--from", dest="first", type=int, default=1, metavar="N", help="go on at N")
    made.add_argument("--json", type=Path, metavar="PATH", help="a file for the result")
    options = made.parse_args(arguments)
    every = [*enumerate(read_list(root / LIST), 1)]
    misfits = [(number, one) for number, one in every if not one.fits(root)]
    for number, one in misfits:
        print(f"{number} the text is not there exactly once: {one.file}: {one.old}")
    if misfits or options.check:
        print(f"{len(every) - len(misfits)} of {len(every)} texts are in their files once.")
        return int(bool(misfits))
    chosen = [(n, one) for n, one in every if n >= options.first and options.only in one.file]
    command = " ".join(["python", "scripts/mutate.py", *arguments])
    versions = {"torch": version("torch"), "python": platform.python_version()}
    words, rows = [], []
    with tempfile.TemporaryDirectory(prefix="mutations-") as folder:
        copy = Copy(root, Path(folder))
        failing = copy.failing([one.test for _, one in chosen])
        for number, one in chosen:
            start, caught = time.monotonic(), one.test not in failing and copy.is_caught(one)
            row = {"file": one.file, "why": one.why, "test": one.test, "caught": caught}
            rows.append({**row, "seconds": round(time.monotonic() - start, 1)})
            missed = f"survived ({one.survives})" if one.survives else "SURVIVED"
            missed = "FAILS WITHOUT IT" if one.test in failing else missed
            words.append("caught" if caught else missed)
            print(f"{number} {words[-1]}: {one.file}: {one.why} [{one.test}]", flush=True)
            if options.json:  # each time: a run that is stopped has left what it found
                result = {"command": command, "versions": versions, "rows": rows}
                options.json.write_text(f"{json.dumps(result, indent=1)}\n", encoding="utf-8")
    print(f"{words.count('caught')} of {len(words)} were caught.")
    return int(any(word.isupper() for word in words))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
