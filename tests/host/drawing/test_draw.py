"""`--draw`: a CSV in, a folder of pictures out, by diffusers' own pipeline with our LoRA in it."""

from __future__ import annotations

import inspect
import runpy
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import diffusers
import graph
import numpy
import pytest
import torch
from diffusers import FluxPipeline
from eraseanything_pack.erase_engine.backends.diffusers import pipeline
from eraseanything_pack.erase_engine.cli.train import main
from eraseanything_pack.erase_engine.families.registry import family_of
from eraseanything_pack.erase_engine.lora.file import save_lora
from PIL import Image
from safetensors.torch import save_file
from tiny_diffusers import save_whole_pipeline
from tiny_flux import build
from torch.nn.functional import pad

CSV = "case_number,prompt,evaluation_seed\n4,a red star,7\n6,a blue star,8\n"
GUIDING = ("guidance_scale", "true_cfg_scale", "negative_prompt")
HOW = {"num_inference_steps": 2, "width": 64, "height": 64, "guidance_scale": 2.0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny Flux as a whole diffusers folder."""
    return save_whole_pipeline(tmp_path_factory.mktemp("whole"), build())


@pytest.fixture(scope="module")
def lora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A strong random LoRA, as an erasure is saved."""
    path = tmp_path_factory.mktemp("lora") / "a.safetensors"
    return save_lora(path, graph.lora_state(build(), strength=2.0), {"format_version": "1"})


@pytest.fixture
def draw(folder: Path, tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Runs the command, some options exchanged, and reads the folder: name -> pixels."""

    def run(csv: str = CSV, **changes: Any) -> dict[str, Any]:
        (tmp_path / "prompts.csv").write_text(csv, encoding="utf-8")
        options = {"draw": tmp_path / "prompts.csv", "model": folder, "out": tmp_path / "out"}
        options |= {"steps": 2, "resolution": 64, "guidance": 2.0, "device": "cpu"} | changes
        main([text for name, value in options.items() for text in (f"--{name}", str(value))])
        return {path.name: pixels(path) for path in sorted(options["out"].iterdir())}

    return run


def pixels(path: Path) -> Any:
    with Image.open(path) as image:
        return numpy.asarray(image)


def same(one: dict[str, Any], other: dict[str, Any]) -> dict[str, bool]:
    return {name: numpy.array_equal(one[name], other[name]) for name in one}


def test_pictures_are_the_pipelines_own(draw: Callable[..., Any], folder: Path) -> None:
    found = draw(pictures=2)
    assert list(found) == ["4_0.png", "4_1.png", "6_0.png", "6_1.png"]
    pipe = FluxPipeline.from_pretrained(folder, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    for name, prompt, seed in (("4_0", "a red star", 7), ("6_1", "a blue star", 9)):
        generator = torch.Generator().manual_seed(seed)
        expected = pipe(prompt=prompt, generator=generator, **HOW).images[0]
        assert numpy.array_equal(found[f"{name}.png"], numpy.asarray(expected))


def test_the_lora_acts(draw: Callable[..., Any], lora: Path, tmp_path: Path) -> None:
    erased = draw(lora=lora, out=tmp_path / "erased")
    assert not any(same(erased, draw()).values())


def test_a_stopped_run_goes_on(
    draw: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    drawn, own = [], pipeline.DrawingPipeline.draw

    def stopping(self: Any, prompt: str, *others: Any) -> Any:
        if drawn:
            raise KeyboardInterrupt
        drawn.append(prompt)
        return own(self, prompt, *others)

    with monkeypatch.context() as patch, pytest.raises(SystemExit, match="Stopped"):
        patch.setattr(pipeline.DrawingPipeline, "draw", stopping)
        draw()
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["4_0.png"]
    first = (tmp_path / "out" / "4_0.png").stat().st_mtime_ns
    resumed = draw()
    assert (tmp_path / "out" / "4_0.png").stat().st_mtime_ns == first
    assert all(same(draw(out=tmp_path / "whole"), resumed).values())
    with monkeypatch.context() as patch:  # nothing is left to do: no model is loaded
        patch.setattr(pipeline.PipelineFiles, "load", None)
        draw()


def test_processes_share_out_the_pictures(
    draw: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    for rank, names in (("1", ["6_0.png"]), ("0", ["4_0.png", "6_0.png"])):
        monkeypatch.setenv("RANK", rank)
        assert list(draw()) == names


def test_other_settings_do_not_go_into_the_same_folder(
    draw: Callable[..., Any], lora: Path
) -> None:
    draw()
    for changes, says in (({"lora": lora}, "another lora"), ({"steps": 3}, "steps '2'")):
        with pytest.raises(SystemExit, match=rf"4_0\.png, drawn with {says}, expected"):
            draw(**changes)


def test_it_runs_as_a_command_without_network(
    draw: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: Any) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setitem(globals(), "main", as_a_module(monkeypatch))
    assert len(draw()) == 2
    told = capsys.readouterr()
    assert told.out.endswith("out\n") and "2 pictures to draw, 0 are there." in told.err


def as_a_module(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], None]:
    def run(arguments: list[str]) -> None:
        monkeypatch.setattr(sys, "argv", ["erase_engine", *arguments])
        runpy.run_module("erase_engine", run_name="__main__")

    return run


WRONG = [
    ({"csv": "prompt\n"}, r"Got a prompt list without rows"),
    ({"draw": "nowhere.csv"}, r"Got --draw nowhere\.csv, which can't be read \(.*, expected a CSV"),
    ({"model": "nowhere"}, r"Got the model nowhere, expected a diffusers folder with model_index"),
    ({"lora": "nowhere"}, r"Got the LoRA nowhere, which is no file"),
    ({"resolution": 100}, r"Got resolution 100 pixels, expected a multiple of 16\. Use 96"),
    ({"steps": 0}, r"Got steps 0, expected a whole number from 1"),
    ({"pictures": 0}, r"Got pictures 0, expected a whole number from 1"),
    ({"guidance": "nan"}, r"Got guidance nan, expected a number from 0"),
    ({"device": "abacus"}, r"Got the device 'abacus' \("),
]


@pytest.mark.parametrize(("changes", "message"), WRONG, ids=[str(one) for one, _ in WRONG])
def test_wrong_words_end_the_command(
    draw: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, Any],
    message: str,
) -> None:
    monkeypatch.setattr(pipeline.PipelineFiles, "load", None)  # nothing is loaded before
    with pytest.raises(SystemExit, match=f"^Error: {message}"):
        draw(**changes)


PIPELINES = [
    ("FluxPipeline", "FluxTransformer2DModel", {"guidance_scale": 2.0}),
    ("StableDiffusion3Pipeline", "SD3Transformer2DModel", {"guidance_scale": 2.0}),
    ("ChromaPipeline", "ChromaTransformer2DModel", {"guidance_scale": 2.0}),
    ("Flux2KleinPipeline", "Flux2Transformer2DModel", {"guidance_scale": 2.0}),
    ("ZImagePipeline", "ZImageTransformer2DModel", {"guidance_scale": 2.0}),
    (
        "QwenImagePipeline",
        "QwenImageTransformer2DModel",
        {"true_cfg_scale": 2.0, "negative_prompt": " "},
    ),
]


@pytest.mark.parametrize(("kind", "net", "expected"), PIPELINES, ids=[one[0] for one in PIPELINES])
def test_every_familys_pipeline_is_asked_by_its_own_names(
    kind: str, net: str, expected: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes all that is given; guidance goes to the argument that guides."""
    made, asked = getattr(diffusers, kind), {}
    takes = inspect.signature(made.__call__)

    def call(self: Any, *args: Any, **given: Any) -> Any:
        asked.update(takes.bind(self, *args, **given).arguments)
        return SimpleNamespace(images=["picture"])

    call.__signature__ = takes
    monkeypatch.setattr(made, "__call__", call)
    pipe = object.__new__(made)
    vars(pipe)["transformer"] = SimpleNamespace(config=SimpleNamespace(guidance_embeds=False))
    drawing = pipeline.DrawingPipeline(pipe, family_of(net, "diffusers"))
    options = pipeline.DrawingOptions(steps=2, resolution=64, guidance=2.0)
    assert drawing.draw("a red star", 7, options) == "picture"
    guided = {name: asked[name] for name in GUIDING if name in asked}
    assert guided == expected and asked["generator"].initial_seed() == 7
    assert (asked["num_inference_steps"], asked["width"], asked["height"]) == (2, 64, 64)


def test_other_models_and_loras_are_named(draw: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "sd").mkdir()
    index = tmp_path / "sd" / "model_index.json"
    index.write_text('{"transformer": ["diffusers", "PixArtTransformer2DModel"]}')
    with pytest.raises(SystemExit, match=r"Got PixArtTransformer2DModel, expected a Flux, SD3"):
        draw(model=tmp_path / "sd")
    index.write_text('{"unet": ["diffusers", "UNet2DConditionModel"]}')
    with pytest.raises(SystemExit, match=r"model_index\.json, which can't be read as FLUX\.1"):
        draw(model=tmp_path / "sd")
    nothing, alien, wide = (tmp_path / f"{name}.safetensors" for name in ("no", "alien", "wide"))
    nothing.write_bytes(b"nothing")
    save_file({"unet.a.lora_A.weight": torch.ones(2, 2)}, alien)
    state = graph.lora_state(build())
    save_file(
        {f"transformer.{key}": pad(value, (0, 1)) for key, value in state.items() if value.ndim},
        wide,
    )
    for path in (nothing, alien, wide):
        with pytest.raises(SystemExit, match=rf"Got the LoRA .*{path.name}, which the model does"):
            draw(lora=path)
    assert not (tmp_path / "out").exists()
