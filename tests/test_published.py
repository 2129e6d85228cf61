"""The pack as the registry would publish it: judged by other people's checkers, and run."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from comfy_server import PACK, PACK_NAME, comfy_server
from setup import CHECKERS_BIN, comfyui_path

COMMITTER = "-c user.name=test -c user.email=test@localhost"


# Everything that the miniature needs, in one prompt.
TINY = {name: ["tiny", slot] for slot, name in enumerate(("model", "clip", "vae"))}
LOOK = {"prompt": "a star", "words": "star", "steps": 1, "seed": 0, "resolution": 64}
PROMPT = {
    "tiny": {"class_type": "EraseAnythingTinyFlux", "inputs": {}},
    "look": {"class_type": "EraseAnythingAttention", "inputs": {**TINY, **LOOK}},
}


@dataclass(frozen=True)
class Checker:
    """A command run in the pack's folder, what it says of a good pack, and a fault it knows."""

    command: tuple[str, ...]
    says: str
    file: str
    fault: str


IMPORT_GUARD = ("comfy-import-guard", "--offline", "check", "--comfy-dir=../..", "--target=HEAD")
CHECKERS = {
    # It exits with 0 whatever it warns of, so its words count.
    "validate": Checker(
        ("comfy", "--skip-prompt", "node", "validate"),
        "All validation checks passed",
        "nodes/fault.py",
        "exec('1')\n",
    ),
    "import-guard": Checker(
        IMPORT_GUARD,
        "SAFE",
        "nodes/fault.py",
        "from comfy.model_management import not_there\n",
    ),
    "import-guard, calls": Checker(
        IMPORT_GUARD,
        "SAFE",
        "nodes/fault.py",
        "import comfy.utils\n\ncomfy.utils.ProgressBar(10, every=2)\n",
    ),
    "lint": Checker(
        ("comfy-test", "lint", "--strict", "."),
        "0 error(s), 0 warning(s)",
        "nodes/fault.py",
        "import torch\n\ntorch.zeros(1).cuda()\n",
    ),
    "lint of scripts": Checker(
        ("comfy-test", "lint", "--strict", "."),
        "0 error(s), 0 warning(s)",
        "web/js/fault.js",
        "document.body.append(document.createElement('p'));\n",
    ),
    # Its lesser findings are words such as `record(`, for the `ord(` in it, and long docstrings.
    "nodesafe": Checker(
        ("nodesafe", "scan", "--fail-on=malicious", "--format=markdown", "."),
        "nodesafe scan report",
        "nodes/fault.py",
        "eval('1')\n",
    ),
}
Objective = Callable[[Checker], "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git tracks, less what .comfyignore names, where a ComfyUI has its custom nodes."""
    target = tmp_path_factory.mktemp("comfyui") / "custom_nodes" / PACK_NAME
    left_out = set(tracked("-ci", "--exclude-from=.comfyignore"))
    for name in set(tracked()) - left_out:
        file = target / name
        file.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PACK / name, file)
    return target


def tracked(*options: str) -> list[str]:
    command = ["git", "-C", str(PACK), "ls-files", "-z", *options]
    listed = subprocess.run(command, check=True, capture_output=True, text=True)
    return listed.stdout.rstrip("\0").split("\0")


def test_all_that_an_artist_sees_is_published() -> None:
    """Help pages, too, though they lie in a folder of a name that is left out at the top."""
    left_out = tracked("-ci", "--exclude-from=.comfyignore")
    seen = ("web/", "locales/", "nodes/", "erase_engine/", "example_workflows/", "subgraphs/")
    assert "docs/nodes.md" in left_out
    assert [name for name in left_out if name.startswith(seen)] == []


@pytest.fixture(scope="module")
def host_history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The host's own modules as a git repository of one commit: comfy-import-guard reads those."""
    cache = tmp_path_factory.mktemp("cache")
    repository = cache / "ComfyUI"
    repository.mkdir()
    for part in (*comfyui_path().glob("comfy*"), *comfyui_path().glob("*.py")):
        copy = shutil.copytree if part.is_dir() else shutil.copy
        copy(part, repository / part.name)
    for command in ("init --quiet", "add --force .", f"{COMMITTER} commit --quiet -m host"):
        subprocess.run(["git", *command.split()], cwd=repository, check=True)
    return cache


@pytest.fixture
def run(published: Path, host_history: Path, tmp_path: Path) -> Objective:
    """Runs a checker on the published pack, where nothing asks and nothing is sent."""
    settings = {
        "COMFY_IMPORT_GUARD_CACHE": str(host_history),
        "DO_NOT_TRACK": "1",
        "HOME": str(tmp_path),
        "NO_COLOR": "1",
        "XDG_CONFIG_HOME": str(tmp_path),
    }

    def run(checker: Checker) -> subprocess.CompletedProcess[str]:
        name, *options = checker.command
        assert (CHECKERS_BIN / name).is_file(), f"no {name}: run `python scripts/setup.py --tests`"
        return subprocess.run(
            [CHECKERS_BIN / name, *options],
            cwd=published,
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    return run


@pytest.mark.parametrize("name", CHECKERS)
def test_the_published_pack_passes(name: str, run: Objective) -> None:
    done = run(CHECKERS[name])
    assert done.returncode == 0 and CHECKERS[name].says in done.stdout, done.stdout


@pytest.mark.parametrize("name", CHECKERS)
def test_a_planted_fault_is_found(name: str, run: Objective, published: Path) -> None:
    checker = CHECKERS[name]
    fault = published / checker.file
    fault.write_text(checker.fault, encoding="utf-8")
    try:
        done = run(checker)
    finally:
        fault.unlink()
    assert done.returncode != 0 or checker.says not in done.stdout, done.stdout


def test_it_lacks_nothing_that_its_nodes_need(published: Path, tmp_path: Path) -> None:
    assert not (published / "tests").exists()
    with comfy_server(comfyui_path(), tmp_path, pack=published) as server:
        ours = [name for name in server.object_info() if name.startswith("EraseAnything")]
        assert len(ours) > 6
        assert server.files(server.run(PROMPT)["look"])
