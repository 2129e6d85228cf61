"""Erase Concept's widgets reach the training, and its outputs feed stock nodes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import graph
import pytest
import torch
from comfy_extras.nodes_train import LoraModelLoader, LossGraphNode, SaveLoRA
from eraseanything_pack.erase_engine import atomic_file as atomic_file
from eraseanything_pack.erase_engine.config import RECIPES, EraseConfig
from eraseanything_pack.nodes.training.inputs import config_of, training_inputs


@pytest.fixture
def model() -> Any:
    return graph.flux()


def test_outputs_feed_stock_nodes(model: Any, loras: Path, tmp_path: Path) -> None:
    lora, losses, erased, report = graph.erase(model)
    with torch.inference_mode():
        graph_ui = LossGraphNode.execute(losses, "loss").ui.as_dict()
        SaveLoRA.execute(lora, "mine")
        (loaded,) = LoraModelLoader.execute(model, lora, 1.0).args
    assert len(losses["loss"]) == 3
    assert (tmp_path / "temp" / graph_ui["images"][0]["filename"]).is_file()
    assert list((tmp_path / "output").glob("mine*.safetensors"))
    expected = graph.picture(erased)
    assert torch.equal(graph.picture(loaded), expected)
    assert torch.equal(graph.picture(graph.apply(model, lora=lora).args[0]), expected)
    assert report.startswith("Saved as EraseAnything/star_00001.safetensors\nErase: star (object)")


def test_the_widgets_reach_the_training(model: Any, loras: Path) -> None:
    """Each widget that is no text: what is recorded is what was asked for."""
    asked = {"recipe": "paper", "negative_guidance": 0.5, "rank": 3, "targets": "dual_qk"}
    lora, *_ = graph.erase(model, **asked, steps=2, batch=1, seed=7, file_name="mine/a")
    config = json.loads(graph.record(loras / "mine" / "a_00001.safetensors")["config"])
    found = {**config, "rank": config["lora"]["rank"], "targets": config["lora"]["targets"]}
    expected = {**asked, "steps": 2, "batch": 1, "seed": 7, "width": 64, "height": 64}
    assert {name: found[name] for name in expected} == expected
    assert len(lora) == 3 * 4 * 2  # tensors, layers, blocks


@pytest.mark.parametrize("recipe", RECIPES)
def test_what_is_left_at_its_default_is_the_recipes_own(recipe: str) -> None:
    defaults = {
        widget.id: widget.default
        for widget in training_inputs()
        if getattr(widget, "default", None) is not None
    }
    untouched = {**defaults, "recipe": recipe, "resolution": 64, "seed": 5}
    expected = EraseConfig.from_recipe(recipe, width=64, height=64, seed=5)
    assert config_of(untouched) == expected
    changed = config_of({**untouched, "negative_guidance": 0.7, "rank": 3, "batch": 5, "steps": 9})
    assert (changed.negative_guidance, changed.lora.rank, changed.lora.alpha) == (0.7, 3, 3)
    steps = 9 if expected.steps else 0  # a limit: where there are none, none are added
    assert (changed.batch, changed.keep_per_step, changed.steps) == (5, 5, steps)


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_defaults_of_the_first_release_are_nobodys_choice(recipe: str) -> None:
    """As its workflows hold them."""
    released = {"negative_guidance": 0.0, "rank": 8, "targets": "text_pooled", "batch": 8}
    released |= {"recipe": recipe, "resolution": 64, "seed": 5, "steps": 160}
    expected = EraseConfig.from_recipe(recipe, width=64, height=64, seed=5)
    assert config_of(released) == expected


def test_the_words_reach_the_plan(model: Any, loras: Path) -> None:
    asked = {
        "replace_with": "heart",
        "synonyms": "pentagram, sparkle",
        "keep": "a blue ring",
        "prompts": "a star at night",
    }
    graph.erase(model, **asked, steps=1)
    plan = json.loads(graph.record(loras / "EraseAnything" / "star_00001.safetensors")["plan"])
    assert plan["anchor"] == "heart" and plan["synonyms"] == ["pentagram", "sparkle"]
    assert "a blue ring" in plan["keep"]
    assert plan["pairs"][0]["concept_prompt"] == "a star at night"
    assert plan["pairs"][0]["anchor_prompt"] == "a heart at night"
