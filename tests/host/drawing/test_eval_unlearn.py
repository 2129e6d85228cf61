"""The erased model as eval-unlearn asks for it: by its entry point, its runner and its metric.

Where the package (pip install eval-unlearn) is not installed, its runner's test is skipped.
"""

from __future__ import annotations

import importlib
import json
import socket
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import comfy
import graph
import numpy
import pytest
import tomllib
import torch
from eraseanything_pack.erase_engine.lora.file import save_lora
from tiny_diffusers import CLIP, save_whole_pipeline
from tiny_flux import build
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPModel,
    CLIPProcessor,
    CLIPTokenizer,
)

ROOT = Path(__file__).parents[3]
GROUP = "eval_unlearn.techniques"
NAME = "eraseanything"
POINTS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "entry-points"
][GROUP]
JUDGE = "openai/clip-vit-base-patch32"  # a name that the metric takes; here it is a folder


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the technique is configured with: a tiny Flux and a strong random LoRA."""
    folder = save_whole_pipeline(tmp_path_factory.mktemp("whole"), build())
    state = graph.lora_state(build(), strength=2.0)
    lora = save_lora(folder / "a.safetensors", state, {"format_version": "1"})
    numbers = {"steps": 2, "resolution": 64, "device": "cpu"}
    return {"model": str(folder), "lora": str(lora), "erase_concept": "star", **numbers}


def technique(**given: Any) -> Any:
    """As the entry point names it."""
    return EntryPoint(NAME, POINTS[NAME], GROUP).load()(**given)


def test_it_draws_each_prompt_from_a_seed_of_its_own(given: dict[str, Any]) -> None:
    erased = technique(**given)
    pictures = erased.generate(["a red star", "a red star"], seed=4)
    assert [each.size for each in pictures] == [(64, 64)] * 2
    [again] = erased.generate(["a red star"], seed=5)
    [before] = technique(**{**given, "lora": None}).generate(["a red star"], seed=5)
    first, second, again, before = map(numpy.asarray, (*pictures, again, before))
    assert numpy.array_equal(second, again)
    assert not numpy.array_equal(second, first) and not numpy.array_equal(second, before)
    [small] = erased.generate(["a red star"], width=32, height=32)
    assert small.size == (32, 32)


def test_wrong_settings_are_named(given: dict[str, Any]) -> None:
    for wrong, says in (
        ({"model": "nowhere"}, r"Got the model nowhere, expected a diffusers folder"),
        ({"steps": 0}, r"Got steps 0, expected"),
        ({"step": 4}, r"Got step.*, expected"),
        ({"dtype": "int8"}, r"Got dtype 'int8', expected one of bfloat16"),
    ):
        with pytest.raises(ValueError, match=says):
            technique(**{**given, **wrong})


@pytest.fixture
def runners(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """eval-unlearn's runners, in a folder of the test's, with this checkout's entry point."""
    for package in ("eval_unlearn", "datasets"):  # it reads lists of prompts by the second
        pytest.importorskip(package)

    def refuse(*args: Any) -> None:
        raise AssertionError("the network was asked for")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    info = tmp_path / "checkout-0.dist-info"
    info.mkdir()
    lines = [f"[{GROUP}]", *(f"{name} = {value}" for name, value in POINTS.items())]
    (info / "entry_points.txt").write_text("\n".join(lines))
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: checkout\nVersion: 0\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return importlib.import_module("eval_unlearn.runners.single_benchmark_runner")


@pytest.mark.filterwarnings("ignore")
def test_its_own_runner_judges_the_erased_model(
    runners: Any, given: dict[str, Any], tmp_path: Path
) -> None:
    save_judge(tmp_path / JUDGE)
    prompts = {"target": ["a red star", "a blue star"], "retain": ["a red circle"] * 3}
    for name, texts in prompts.items():
        (tmp_path / f"{name}.csv").write_text("\n".join(["prompt", *texts]), encoding="utf-8")
    metric = {f"{name}_prompts_path": str(tmp_path / f"{name}.csv") for name in prompts}
    metric |= {"clip_model_name": JUDGE, "device": "cpu", "batch_size": 5}
    report = runners.SingleBenchmarkRunner(
        NAME, "ua_ira", given, metric, output_dir=str(tmp_path / "results"), seed=3
    ).run()
    assert report["erase_concept"] == "star"
    details = report["metric_result"]["details"]
    assert (details["target_total"], details["retain_total"]) == (2, 3)
    files = sorted((tmp_path / "results").rglob("*.png"))
    assert len(files) == 5
    json.dumps(report)


def save_judge(folder: Path) -> None:
    """A random CLIP as the metric loads it, of a layer each."""
    vision = {"hidden_size": 12, "intermediate_size": 24, "num_hidden_layers": 1}
    vision |= {"num_attention_heads": 2, "image_size": 32, "patch_size": 16}
    config = CLIPConfig(text_config=CLIP, vision_config=vision, projection_dim=12)
    with torch.random.fork_rng():
        torch.manual_seed(5)
        CLIPModel(config).save_pretrained(folder)
    tokenizer = CLIPTokenizer.from_pretrained(
        Path(comfy.__path__[0]) / "sd1_tokenizer", model_max_length=77, local_files_only=True
    )
    sizes = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPProcessor(CLIPImageProcessor(**sizes), tokenizer).save_pretrained(folder)
