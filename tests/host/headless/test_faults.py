"""Whatever is in a model's folder, the headless command ends in a sentence; what failed is said."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from diffusers.schedulers import scheduling_flow_match_euler_discrete as scheduling
from eraseanything_pack.erase_engine.cli.train import main
from tiny_diffusers import SMALL, save_pipeline
from tiny_flux import build

NET = "transformer/config.json"
Command = Callable[..., None]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_pipeline(tmp_path_factory.mktemp("tiny"), build())


@pytest.fixture
def command(folder: Path, tmp_path: Path) -> Command:
    """Runs the command, with lines that win over those of its config."""

    def run(lines: str = "") -> None:
        config = tmp_path / "small.yaml"
        config.write_text(yaml.safe_dump(yaml.safe_load(SMALL) | (yaml.safe_load(lines) or {})))
        given = {"model": folder, "concept": "star", "config": config, "out": tmp_path / "a"}
        main([text for name, value in given.items() for text in (f"--{name}", str(value))])

    return run


FILES = {
    "a list": (NET, "[1]"),
    "nothing": (NET, "null"),
    "deep": (NET, "[" * 100_000),
    "a class that is a number": (NET, {"_class_name": 5}),
    "more blocks than weights": (NET, {"num_layers": 3}),
    "fewer blocks than weights": (NET, {"num_single_layers": 1}),
    "no rotary sizes": (NET, {"axes_dims_rope": []}),
    "text encoders of a list": ("text_encoder/config.json", "[1]"),
}


@pytest.mark.parametrize("case", FILES)
def test_files_of_other_makes_end_it_before_any_work(
    command: Command, folder: Path, tmp_path: Path, case: str
) -> None:
    name, text = FILES[case]
    own = (folder / name).read_text()
    changed = text if isinstance(text, str) else json.dumps({**json.loads(own), **text})
    try:
        (folder / name).write_text(changed)
        with pytest.raises(SystemExit, match=r"(?s)^Error: .*Got .*expected ") as error:
            command()
    finally:
        (folder / name).write_text(own)
    assert len(str(error.value)) < 600
    assert not list(tmp_path.glob("a*"))


def test_blocks_that_the_model_has_not_are_no_fault_of_its_files(command: Command) -> None:
    says = r"^Error: Got attention_blocks \(0, 9\), expected numbers from -2 to 1: this model has 2"
    with pytest.raises(SystemExit, match=says):
        command("attention_blocks: [0, 9]")


def test_a_package_that_a_setting_asks_for_is_named(
    command: Command, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = folder / "scheduler" / "scheduler_config.json"
    own = path.read_text()
    monkeypatch.setattr(scheduling, "is_scipy_available", lambda: False)
    try:
        path.write_text(json.dumps({**json.loads(own), "use_beta_sigmas": True}))
        with pytest.raises(SystemExit, match=r"^Error: Got .*scheduler, .*\(.*scipy.*Install the"):
            command()
    finally:
        path.write_text(own)


def test_a_divergence_is_said(command: Command, capsys: Any) -> None:
    command("learning_rate: 1.0\nsteps: 8")
    assert "It diverged: the loss of erasing went from" in capsys.readouterr().err
