"""`--keep-images`: a folder of pictures that the command trains to keep."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eraseanything_pack.erase_engine.backends.diffusers.files import ModelFiles
from eraseanything_pack.erase_engine.backends.diffusers.vae import encode
from eraseanything_pack.erase_engine.cli.pictures import pictures_in, read_picture
from eraseanything_pack.erase_engine.cli.train import main
from eraseanything_pack.erase_engine.lora.file import load_lora
from PIL import Image
from tiny_diffusers import save_pipeline, save_vae
from tiny_flux import build

SMALL = """
recipe: paper
pairs: 4
steps: 2
trajectories: 1
trajectory_steps: 2
width: 64
height: 64
lora: {rank: 2}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Flux as a diffusers folder, with an autoencoder."""
    folder = save_pipeline(tmp_path_factory.mktemp("tiny"), build())
    save_vae(folder)
    return folder


def save_pictures(folder: Path, seed: int = 0, count: int = 3) -> Path:
    """Random ones, of different sizes, and a text beside them."""
    folder.mkdir()
    rng = np.random.default_rng(seed)
    for number in range(count):
        pixels = rng.integers(0, 256, (64, 64 + 8 * number, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no picture")
    return folder


@pytest.fixture
def command(folder: Path, tmp_path: Path) -> Callable[..., list[str]]:
    config = tmp_path / "small.yaml"
    config.write_text(SMALL)

    def make(out: str, **changes: Any) -> list[str]:
        options = {"model": folder, "concept": "star", "config": config, "out": tmp_path / out}
        given = {key: value for key, value in (options | changes).items() if value is not None}
        return [text for key, value in given.items() for text in (f"--{key}", str(value))]

    return make


def test_pictures_are_read_by_name_and_cropped_around_their_middle(tmp_path: Path) -> None:
    paths = pictures_in(save_pictures(tmp_path / "a"))
    assert [path.name for path in paths] == ["0.png", "1.png", "2.png"]
    found = read_picture(paths[2], (64, 64))
    pixels = torch.from_numpy(np.array(Image.open(paths[2]), dtype=np.float32) / 255)
    torch.testing.assert_close(found, pixels[:, 8:-8].permute(2, 0, 1))
    assert read_picture(paths[0], (32, 48)).shape == (3, 32, 48)


def test_latents_are_those_that_the_autoencoder_decodes(folder: Path) -> None:
    vae = ModelFiles(folder).vae(torch.device("cpu"), torch.float32)
    pictures = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    latents = encode(vae, pictures)
    with torch.no_grad():
        mean = vae.encode(pictures * 2 - 1).latent_dist.mean
    assert latents.shape == (2, 16, 8, 8)
    torch.testing.assert_close(latents / 0.36 + 0.12, mean, rtol=1e-4, atol=1e-5)


def test_the_command_trains_on_them(
    command: Callable[..., list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = [save_pictures(tmp_path / name, seed) for seed, name in enumerate("pq")]
    for out, images in (("a", pictures[0]), ("b", pictures[0]), ("c", pictures[1]), ("d", None)):
        main(command(out, **{"keep-images": images}))
    (one, record), (same, _), (other, _), (drawn, drew) = (
        load_lora(tmp_path / f"{out}.safetensors") for out in "abcd"
    )
    assert all(torch.equal(one[key], same[key]) for key in one)
    assert not all(torch.equal(one[key], other[key]) for key in one)
    assert not all(torch.equal(one[key], drawn[key]) for key in one)
    passes = [json.loads(each["figures"])["forwards"] for each in (record, drew)]
    assert passes[1] - passes[0] == 2  # a picture of two steps
    assert "reconstruction" in json.loads(record["figures"])["last_losses"]
    said = capsys.readouterr().err
    assert said.count(f"It takes {passes[0]:,} passes of the model, ") == 3


def test_what_is_missing_ends_the_command_before_any_work(
    command: Callable[..., list[str]], folder: Path, tmp_path: Path
) -> None:
    pictures, empty = save_pictures(tmp_path / "p"), save_pictures(tmp_path / "e", count=0)
    bare = shutil.copytree(folder, tmp_path / "bare", ignore=shutil.ignore_patterns("vae"))
    wrong = {
        r"expected a folder with pictures \(.png": {"keep-images": empty},
        "Got .*nowhere for --keep-images": {"keep-images": tmp_path / "nowhere"},
        "without vae, expected the autoencoder": {"keep-images": pictures, "model": bare},
        "with the recipe fast.*Choose the recipe paper": {
            "keep-images": pictures,
            "recipe": "fast",
        },
    }
    for message, changes in wrong.items():
        with pytest.raises(SystemExit, match=f"^Error: .*{message}"):
            main(command("a", **changes))
    (pictures / "1.png").write_bytes(b"nothing")
    with pytest.raises(SystemExit, match=r"Got .*1\.png, which can't be read .*Remove or replace"):
        main(command("a", **{"keep-images": pictures}))
    assert not list(tmp_path.glob("*.safetensors"))
