"""What stands in the way of drawing a list: named before the model is read, and nothing is lost."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import graph
import pytest
import torch
from eraseanything_pack.erase_engine import prompt_list
from eraseanything_pack.erase_engine.backends.diffusers import pipeline
from eraseanything_pack.erase_engine.cli.train import main
from eraseanything_pack.erase_engine.lora.file import load_lora, prefixed, save_lora
from eraseanything_pack.erase_engine.prompt_list import Picture, save_picture
from PIL import Image
from safetensors.torch import save_file
from tiny_diffusers import save_whole_pipeline
from tiny_flux import build

LONG = "n" * 300
PICTURES, WRITERS = 60, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_whole_pipeline(tmp_path_factory.mktemp("whole"), build())


@pytest.fixture
def given(folder: Path, tmp_path: Path) -> dict[str, Any]:
    (tmp_path / "file").write_text("prompt\na red star\n", encoding="utf-8")
    state = graph.lora_state(build())
    save_lora(tmp_path / "good.safetensors", state, {})
    broken = {key: value.clone() for key, value in prefixed(state).items()}
    next(value for key, value in broken.items() if "lora_B" in key)[0, 0] = torch.nan
    save_file(broken, tmp_path / "nan.safetensors")
    options = {"draw": tmp_path / "file", "model": folder, "out": tmp_path / "out"}
    return options | {"lora": tmp_path / "good.safetensors", "steps": 1, "resolution": 64}


def draw(options: dict[str, Any]) -> None:
    main([text for name, value in options.items() for text in (f"--{name}", str(value))])


@pytest.mark.parametrize(
    ("option", "value", "says"),
    [
        ("lora", "nan.safetensors", r"Got the LoRA .*nan\.safetensors, .*a weight of nan"),
        ("lora", LONG, r"Got the LoRA .*, which is no file"),
        ("model", LONG, r"Got the model .*, expected a diffusers folder"),
        ("out", "file/pictures", r"Got --out .*file can't be written to .*, expected a folder"),
        ("out", LONG, r"Got --out .*, which can't be a folder \(File name too long\)"),
    ],
    ids=["nan", "long lora", "long model", "a file's folder", "long folder"],
)
def test_it_is_named_before_the_model_is_read(
    given: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    option: str,
    value: str,
    says: str,
) -> None:
    monkeypatch.setattr(pipeline.PipelineFiles, "load", None)
    with pytest.raises(SystemExit, match=f"^Error: {says}") as error:
        draw({**given, option: tmp_path / value})
    assert len(str(error.value)) < 600


def test_a_lora_of_which_a_part_fits_is_refused(given: dict[str, Any], tmp_path: Path) -> None:
    """As Apply Erasure LoRA has it: all or none."""
    state, _ = load_lora(given["lora"])
    name = next(key for key in state if ".lora_A" in key)
    block = name.split(".")[1]
    one = {key: value for key, value in state.items() if key.startswith(name.split(".lora_")[0])}
    more = {key.replace(f".{block}.", ".99.", 1): value.clone() for key, value in one.items()}
    save_lora(tmp_path / "part.safetensors", state | more, {})
    with pytest.raises(SystemExit, match=r"does not take \(1 of its \d+ layers are not the model"):
        draw({**given, "lora": tmp_path / "part.safetensors"})


def test_black_pictures_of_a_damaged_model_are_not_saved(
    given: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An evaluator would find nothing in them."""
    load = pipeline.PipelineFiles.load

    def damaged(*place: Any) -> Any:
        drawing = load(*place)
        drawing.pipe.transformer.proj_out.weight.data.fill_(torch.nan)
        return drawing

    monkeypatch.setattr(pipeline.PipelineFiles, "load", damaged)
    with pytest.raises(SystemExit, match=r"^Error: Got no picture of 'a red star' .*float16 over"):
        draw(given)
    assert not list(given["out"].glob("*"))


def test_a_pipeline_that_fails_is_said_to(given: dict[str, Any], folder: Path) -> None:
    """Without its settings, a tokenizer cuts at a length that is no number for it."""
    path = folder / "tokenizer" / "tokenizer_config.json"
    own = path.read_bytes()
    path.unlink()
    try:
        with pytest.raises(SystemExit, match=r"^Error: Got no picture of .*int too big.*Copy or"):
            draw(given)
    finally:
        path.write_bytes(own)


def test_a_full_disk_says_which_picture(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any, **kwargs: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OSError, match=r"no way to write .*0_0\.png \(.*No space.*Make some and"):
        save_picture(Picture(tmp_path / "0_0.png", "a star", 0), Image.new("RGB", (8, 8)), {})
    assert list(tmp_path.iterdir()) == []


def write_all(folder: Path) -> None:
    for number in range(PICTURES):
        picture = Picture(folder / f"{number}_0.png", "a star", number)
        save_picture(picture, Image.new("RGB", (64, 64)), {})


def test_two_processes_may_draw_into_one_folder(tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    writers = [context.Process(target=write_all, args=(tmp_path,)) for _ in range(WRITERS)]
    for each in writers:
        each.start()
    for each in writers:
        each.join(60)
    assert [each.exitcode for each in writers] == [0] * WRITERS
    pictures = prompt_list.pictures_of(
        [prompt_list.Case(number, "a star", number) for number in range(PICTURES)], tmp_path, 1
    )
    assert prompt_list.still_to_draw(pictures, {}) == []
    assert len(list(tmp_path.iterdir())) == PICTURES
