"""What `make demo` erases where nothing is said."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from demo import arguments

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "concept", "family"),
    [
        ([], "star", "Flux"),
        (["--model", "gallery"], "cat", "Flux, gallery"),
        (["--model", "sd3.5", "--concept", "ring"], "ring", "SD3.5"),
    ],
)
def test_every_model_has_something_to_erase(words: list[str], concept: str, family: str) -> None:
    wanted = arguments(words)
    assert (wanted.concept, wanted.family) == (concept, family)


def test_an_unknown_model_is_told_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        arguments(["--model", "sdxl"])
    assert "got the model 'sdxl', expected flux or sd3.5 or" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "given"), [("", ""), ("ring", '--concept "ring" ')])
def test_make_leaves_the_choice_to_the_demo(word: str, given: str) -> None:
    command = ["make", "--dry-run", "demo", "MODEL=gallery", *([f"CONCEPT={word}"] * bool(word))]
    told = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    told = " ".join(told.split())
    assert f'demo.py {given}--kind "object" --model "gallery"' in told
