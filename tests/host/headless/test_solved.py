"""The headless command's recipes that solve: what they leave, and what they say of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eraseanything_pack.erase_engine.cli.train import main
from eraseanything_pack.erase_engine.families.flux import FLUX
from eraseanything_pack.erase_engine.lora.file import load_lora
from eraseanything_pack.erase_engine.training.run import SOFT
from eraseanything_pack.erase_engine.training.solvers.schedule import SETTLED
from eraseanything_pack.erase_engine.training.solvers.solve import HARDENED, TEMPERED
from tiny_diffusers import save_pipeline
from tiny_flux import build

SMALL = """
width: 64
height: 64
batch: 2
trajectories: 2
trajectory_steps: 2
"""
# Random weights and encoders: how far a closed form comes with them says nothing.
ANY = "most_unsolved: 1.0"
TWO_ROUNDS = f"entrance: {{{ANY}, rounds: 2, searches: 2}}"


def erased(tmp_path: Path, *options: str, config: str) -> tuple[set[str], dict[str, int]]:
    """The layers of the file that the command writes, and its figures."""
    folder, out, file = (tmp_path / name for name in ("tiny", "a.safetensors", "small.yaml"))
    file.write_text(SMALL + config)
    given = {"model": save_pipeline(folder, build()), "config": file, "out": out}
    words = [text for name, value in given.items() for text in (f"--{name}", str(value))]
    main([*words, "--concept", "star", *options])
    state, record = load_lora(out)
    return {key.split(".lora_")[0] for key in state if ".lora_" in key}, json.loads(
        record["figures"]
    )


def test_instant_takes_no_pass_and_says_that_it_is_soft(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers, figures = erased(tmp_path, "--recipe", "instant", config=f"entrance: {{{ANY}}}")
    assert layers == set(FLUX.entrances) and figures["forwards"] == 0
    said = capsys.readouterr().err
    assert "It takes no pass of the model." in said and SOFT in said


SETTLES = "solver: budget\nsteps: 30\ncooldown: 0.1\nsettled: 1.0\nimportance: 0.7"


def test_a_training_without_a_closed_form_says_that_it_ended_by_itself(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, figures = erased(tmp_path, config=SETTLES)
    assert figures["steps"] < 30 and SETTLED in capsys.readouterr().err


def test_what_the_entrance_can_not_solve_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match=r"^Error: Got 'star', which .* Choose the recipe fast"):
        erased(tmp_path, "--recipe", "instant", config="entrance: {most_unsolved: 0.0}")
    assert not [path.name for path in tmp_path.glob("a*")]


def test_fast_hardens_and_says_how_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    layers, figures = erased(tmp_path, config=f"steps: 4\n{TWO_ROUNDS}")
    assert layers == set(FLUX.entrances) and figures["steps"] == 4
    assert figures["last_losses"].keys() == {"esd", "attack"}
    said = capsys.readouterr().err
    assert "It takes at most" in said and "100% step 4/4" in said
    endings = [HARDENED, TEMPERED]
    assert any(each in said for each in endings)
