"""The list of changes fits the pack, and the script tells a change that is noticed from another."""

from __future__ import annotations

import ast
import json
import re
from pathlib import Path

import pytest
from mutate import LIST, ROOT, main, read_list

MUTATIONS = read_list(ROOT / LIST)
FEWEST, MOST_BROWSER_TESTS = 110, 3
ROOMS = (
    *("closed_form", "training", "training/solvers", "lora", "concepts", "families", "attention"),
    *("backends/comfy", "backends/diffusers", "cli", "memory.py", "validation.py"),
    *("atomic_file.py",),
)
NODES = ("host", "training", "lora", "attention", "report")


def test_every_room_has_some() -> None:
    assert len(MUTATIONS) >= FEWEST
    files = {one.file for one in MUTATIONS}
    rooms = [*(f"erase_engine/{room}" for room in ROOMS), *(f"nodes/{room}" for room in NODES)]
    assert [room for room in rooms if not any(file.startswith(room) for file in files)] == []


def test_every_text_is_in_its_file_once() -> None:
    assert [one for one in MUTATIONS if not one.fits(ROOT) or one.new == one.old] == []


def test_changed_files_are_python_still() -> None:
    for one in MUTATIONS:
        if one.file.endswith(".py"):
            text = (ROOT / one.file).read_text(encoding="utf-8")
            ast.parse(text.replace(one.old, one.new), one.file)


def test_every_test_is_there() -> None:
    missing = []
    for one in MUTATIONS:
        file, *names = one.test.split("[")[0].split("::")
        text = (ROOT / file).read_text(encoding="utf-8")
        defined = [re.search(rf"^\s*(?:def|class) {name}\b", text, re.MULTILINE) for name in names]
        if not all(defined):
            missing.append(one.test)
    assert missing == []
    browser = [one for one in MUTATIONS if one.test.startswith("tests/browser/")]
    assert len(browser) <= MOST_BROWSER_TESTS


def test_every_change_says_what_it_would_do_to_a_user() -> None:
    said = [one.why for one in MUTATIONS]
    assert [why for why in said if not why.endswith(".") or len(why.split()) < 5] == []


# --- the script ----------------------------------------------------------------------------------

CODE = """
def share(part, whole):
    if whole == 0:
        return 0.0
    return part / whole
"""
TEST = """
from erase_engine.shares import share


def test_a_half():
    assert share(1, 2) == 0.5


def test_that_fails_anyway():
    assert share(1, 2) == 2
"""


def entry(old: str, new: str, test: str = "test_a_half", **more: str) -> str:
    fields = {"file": "erase_engine/shares.py", "old": old, "new": new, "why": f"No {old}."}
    fields |= {"test": f"tests/test_shares.py::{test}", **more}
    return "\n".join(
        ["[[mutation]]", *(f"{key} = {json.dumps(value)}" for key, value in fields.items())]
    )


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A pack of one function, of whose two lines a test looks at one."""
    root = tmp_path / "pack"
    files = {
        "erase_engine/__init__.py": "",
        "erase_engine/shares.py": CODE,
        "tests/test_shares.py": TEST,
    }
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def write_list(root: Path, *entries: str) -> None:
    (root / LIST).write_text("\n".join(entries))


def test_a_catch_is_told_from_a_survivor(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And the pack itself is left as it was."""
    caught, survivor = entry("part / whole", "part * whole"), entry("whole == 0", "False")
    write_list(tree, caught, survivor, entry("0.0", "1.0", "test_that_fails_anyway"))
    result = tree / "result.json"
    assert main(["--json", str(result)], tree) == 1
    words = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
    assert words == ["1 caught", "2 SURVIVED", "3 FAILS WITHOUT IT", "1 of 3 were caught."]
    rows = json.loads(result.read_text())["rows"]
    assert [row["caught"] for row in rows] == [True, False, False]
    assert rows[0].keys() == {"file", "why", "test", "caught", "seconds"}
    assert (tree / "erase_engine" / "shares.py").read_text() == CODE


def test_a_survivor_may_have_a_reason(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    reason = entry("whole == 0", "False", survives="nobody divides by 0")
    write_list(tree, entry("part / whole", "0"), reason)
    assert main(["--from", "2"], tree) == 0
    told = capsys.readouterr().out
    assert told.startswith("2 survived (nobody divides by 0): ") and "0 of 1 were" in told


def test_a_list_that_does_not_fit_changes_nothing(
    tree: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_list(tree, entry("whole", "0"), entry("part / whole", "0"))
    for arguments in ([], ["--check"]):
        assert main(arguments, tree) == 1
        told = capsys.readouterr().out.splitlines()
        assert told[0].startswith("1 the text is not there exactly once: erase_engine/shares.py")
        assert told[1:] == ["1 of 2 texts are in their files once."]
