"""The recipe paper in the node: pictures to keep, given or drawn; its price; cancel and go on."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from random import Random
from typing import Any

import comfy.model_management
import graph
import pytest
import torch
from eraseanything_pack.erase_engine.config import EraseConfig, LoraConfig
from eraseanything_pack.nodes.host.vae import decode, encode
from eraseanything_pack.nodes.training.events import TrainingEvents
from eraseanything_pack.nodes.training.node_host import NO_PREVIEWS, NodeHost
from eraseanything_pack.tinyworld.models import build_vae, load_weights
from eraseanything_pack.tinyworld.pictures import render
from eraseanything_pack.tinyworld.vocabulary import random_scene
from progress_hook import Cancel, watch_progress

CHEAP = {"recipe": "paper", "steps": 2, "batch": 1, "resolution": 64}
IRRELEVANT = 3
STEP = (28 + 2 + 3) + (3 + (1 + IRRELEVANT) * 28 + 3)  # passes
DRAWN = 28  # of one picture: two steps want no more


@pytest.fixture(scope="module")
def vae() -> Any:
    return build_vae(load_weights("vae"))


@pytest.fixture(scope="module")
def pictures() -> torch.Tensor:
    """(3, 64, 64, 3) in 0..1, of inference mode, as the host has them."""
    rng, generator = Random(0), torch.Generator().manual_seed(0)
    drawn = render([random_scene(rng) for _ in range(3)], generator).movedim(1, -1)
    with torch.inference_mode():
        return drawn[:, 32:96, 32:96].clone()


def figures(loras: Path) -> dict[str, Any]:
    path = next(loras.rglob("*_00001.safetensors"))
    return json.loads(graph.record(path)["figures"])


def test_without_pictures_the_model_draws_them(loras: Path) -> None:
    *_, report = graph.erase(graph.flux(), **CHEAP)
    passes = 2 + DRAWN + 2 * STEP
    assert figures(loras)["forwards"] == passes
    assert figures(loras)["last_losses"].keys() == {"esd", "attention", "reconstruction", "rsc"}
    assert f"It takes {passes} passes of the model, " in report
    assert " those of the recipe fast (at most " in report


def test_pictures_that_are_given_are_what_is_kept(
    loras: Path, vae: Any, pictures: torch.Tensor
) -> None:
    def trained(images: torch.Tensor | None) -> dict[str, torch.Tensor]:
        model = graph.flux()
        return graph.erase(model, **CHEAP, vae=vae, keep_images=images)[0]

    given, same, others, none = map(trained, (pictures, pictures, pictures.flip(0), None))
    assert figures(loras)["forwards"] == 2 + 2 * STEP
    assert all(torch.equal(given[key], same[key]) for key in given)
    for other in (others, none):
        assert not all(torch.equal(given[key], other[key]) for key in given)


@torch.no_grad()
def test_pictures_are_encoded_as_the_model_reads_them(vae: Any, pictures: torch.Tensor) -> None:
    model, told = graph.flux(), []
    latents = encode(model, vae, pictures, (64, 64), on_picture=lambda: told.append(1))
    assert latents.shape == (3, 16, 8, 8) and len(told) == 3
    whole = model.model.process_latent_in(vae.encode(pictures))
    torch.testing.assert_close(latents, whole, rtol=0, atol=0.05)  # resizing rounds to 8 bits
    assert whole.std() > 0.5
    decoded = decode(model, vae, latents)
    own, another = ((decoded - each).abs().mean() for each in (pictures, pictures.roll(1, 0)))
    assert own < 0.05 and own < another / 3
    wide = torch.nn.functional.pad(pictures, (0, 1, 32, 32))  # and with transparency
    cropped = encode(model, vae, wide, (64, 64), on_picture=lambda: None)
    torch.testing.assert_close(cropped, latents, rtol=0, atol=0.05)


def test_latents_may_be_trained_on(vae: Any, pictures: torch.Tensor) -> None:
    """Nodes run in inference mode, whose tensors autograd refuses."""
    with torch.inference_mode():
        latents = host(vae, pictures).keep_pictures()
    assert latents is not None and not latents.is_inference()
    assert host(vae, None).keep_pictures() is None


def host(vae: Any, pictures: Any, recipe: str = "paper") -> NodeHost:
    config = EraseConfig.from_recipe(recipe, width=64, height=64)
    rest: dict[str, Any] = {"stem": Path("a"), "live": None, "preview_every": 0}
    return NodeHost(graph.flux(), graph.clip(), vae, config, **rest, keep_images=pictures)


def test_what_is_missing_is_said_before_any_work(vae: Any, pictures: torch.Tensor) -> None:
    with pytest.raises(ValueError, match=r"Got keep_images without a vae.*Connect one to vae"):
        host(None, pictures)
    with pytest.raises(ValueError, match=r"with the recipe fast.*Choose the recipe paper"):
        host(vae, pictures, "fast")


def test_the_price_is_shown_before_the_first_pass(
    loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(TrainingEvents, "say", lambda self, text: said.append(text))

    def at_once(done: int, total: int) -> None:
        comfy.model_management.interrupt_current_processing(True)

    watch_progress(monkeypatch, at_once)
    with pytest.raises(Cancel):
        graph.erase(graph.flux(), **{**CHEAP, "steps": 100})
    first = [said[0].index("' appears instead: "), said[0].index(NO_PREVIEWS)]
    # The node shows the first lines; the rest is there when it is scrolled.
    assert sorted(first) == first
    assert said[0].index("It takes 15,326 passes of the model, ") > first[1]


def test_cancelled_in_a_sampling_and_queued_again_is_the_same_file(
    loras: Path, monkeypatch: pytest.MonkeyPatch, vae: Any, pictures: torch.Tensor
) -> None:
    given = {"vae": vae, "keep_images": pictures}
    model, whole = graph.flux(), 2 + 2 * STEP
    graph.erase(model, **CHEAP, **given, file_name="whole")
    at = 2 + STEP + 17  # passes: within the path of the second erase step
    told: list[int] = []

    def cancel(done: int, total: int) -> None:
        told.append(done)
        if done >= at:
            comfy.model_management.interrupt_current_processing(True)

    with monkeypatch.context() as patch, pytest.raises(Cancel):
        watch_progress(patch, cancel)
        graph.erase(model, **CHEAP, **given)
    assert told[-1] == at
    (so_far,) = (loras / "EraseAnything").iterdir()
    assert so_far.name == "star_step1_00001.safetensors"
    told.clear()
    watch_progress(monkeypatch, lambda done, total: told.append(done))
    graph.erase(model, **CHEAP, **given)
    assert told[0] > 2 + STEP and told[-1] == whole
    resumed = (loras / "EraseAnything" / "star_00001.safetensors").read_bytes()
    assert resumed == (loras / "whole_00001.safetensors").read_bytes()


def test_the_whole_recipe_is_what_is_recorded(loras: Path) -> None:
    """What a benchmark or another program needs to train the same."""
    graph.erase(graph.flux(), **CHEAP)
    path = next(loras.rglob("*.safetensors"))
    found = EraseConfig.from_json(graph.record(path)["config"])
    own = EraseConfig.from_recipe("paper", width=64, height=64, steps=2)
    lora = LoraConfig(rank=2, targets="text_qk", init="gaussian")
    assert replace(found, lora=own.lora) == own and found.lora == lora
