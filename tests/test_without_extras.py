"""The engine imports, and the command says what it needs, where its extras are not installed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
EXTRAS = ("accelerate", "comfy", "diffusers", "peft", "tqdm", "transformers", "yaml")
BLOCKED = f"""
import sys
sys.modules.update(dict.fromkeys({EXTRAS}))  # None: an import raises ModuleNotFoundError
"""
EVERY_MODULE = """
import importlib, pkgutil, erase_engine
HOSTS = ("erase_engine.backends.comfy", "erase_engine.backends.diffusers", "erase_engine.__main__")
for one in pkgutil.walk_packages(erase_engine.__path__, "erase_engine."):
    if not one.name.startswith(HOSTS):
        importlib.import_module(one.name)
"""
COMMAND = """
from erase_engine.cli.train import main
main(["--model", ".", "--concept", "dog", "--out", "never"])
"""


def run(code: str) -> subprocess.CompletedProcess[str]:
    given = [sys.executable, "-c", BLOCKED + code]
    return subprocess.run(given, cwd=ROOT, capture_output=True, text=True)


def test_engine_needs_no_extra():
    done = run(EVERY_MODULE)
    assert done.returncode == 0, done.stderr


def test_command_names_what_is_missing():
    done = run(COMMAND)
    assert done.returncode == 1
    assert done.stderr == (
        "Error: Got no module 'diffusers', expected all that the command needs. "
        "Run pip install eraseanything[headless].\n"
    )
