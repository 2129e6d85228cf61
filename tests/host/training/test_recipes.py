"""The recipes that solve, in the node: what they leave, what they say, and what they refuse."""

from __future__ import annotations

import json
from itertools import groupby
from pathlib import Path
from typing import Any

import folder_paths
import graph
import pytest
import torch
from comfy_extras.nodes_train import LossGraphNode
from eraseanything_pack.erase_engine.config import RECIPES, EraseConfig
from eraseanything_pack.erase_engine.lora.file import load_lora
from eraseanything_pack.erase_engine.training.run import SOFT, TRAINED
from eraseanything_pack.erase_engine.training.solvers.solve import HARDENED, TEMPERED
from eraseanything_pack.nodes.training import erase as node
from eraseanything_pack.nodes.training.inputs import FAST, config_of, training_inputs
from eraseanything_pack.tinyworld.load import load_tiny
from progress_hook import watch_progress

ENTRANCES = {"context_embedder", "time_text_embed.text_embedder.linear_1"}
DEFAULTS = {
    **graph.ERASE,
    **{each.id: each.default for each in training_inputs() if hasattr(each, "default")},
    "synonyms": "",
    "resolution": 128,
}
# What a workflow of version 0.1 holds where nobody has changed anything.
OLD = {"steps": 160, "negative_guidance": 0.0, "rank": 8, "targets": "text_pooled", "batch": 8}


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, ...]:
    model, clip, vae = load_tiny("Flux")
    return model, graph.remembering(clip), vae


def run(tiny: tuple[Any, ...], vae: Any = None, **widgets: Any) -> Any:
    with torch.inference_mode():
        return node.EraseConcept.execute(tiny[0], tiny[1], vae, **{**DEFAULTS, **widgets})


def layers(state: dict[str, Any]) -> set[str]:
    return {key.split(".lora_")[0] for key in state if ".lora_" in key}


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The events that the page gets."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(node, "sender", lambda workflow: sent.append)
    return sent


def states(told: list[dict[str, Any]]) -> list[str]:
    """One after the other."""
    return [state for state, _ in groupby(event["state"] for event in told)]


def test_instant_leaves_a_file_a_plot_and_a_warning(
    tiny: tuple[Any, ...], loras: Path, told: list[dict[str, Any]]
) -> None:
    state, losses, _, report = run(tiny, tiny[2], recipe="instant").args
    saved, record = load_lora(loras / "EraseAnything" / "star_00001.safetensors")
    assert layers(saved) == ENTRANCES == {n.removeprefix("transformer.") for n in layers(state)}
    assert json.loads(record["figures"]) == {"steps": 0, "forwards": 0, "last_losses": {}}
    assert "solved, without a step\n" in report
    assert SOFT in report and SOFT in told[-1]["message"]
    assert "It takes no pass of the model." in report
    before, after = losses["loss"]
    assert before == 1 and after < 0.3
    shown = LossGraphNode.execute(losses, "loss").ui.as_dict()["images"][0]["filename"]
    assert (Path(folder_paths.get_temp_directory()) / shown).is_file()
    assert states(told) == ["starting", "solving", "solved", "done"]
    assert told[-1]["previews"]["step"] == 0
    assert not list(Path(folder_paths.get_output_directory()).rglob("unfinished"))


def test_instant_refuses_what_it_would_take_too_much_with(
    tiny: tuple[Any, ...], loras: Path
) -> None:
    with pytest.raises(ValueError, match=r"Got 'red star', which .* Choose the recipe fast"):
        run(tiny, recipe="instant", concept="red star")
    assert not list(loras.rglob("*.safetensors"))
    assert not list(Path(folder_paths.get_output_directory()).rglob("unfinished"))


def test_fast_solves_hardens_shows_it_and_ends_by_itself(
    tiny: tuple[Any, ...],
    loras: Path,
    told: list[dict[str, Any]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bar: list[tuple[int, int]] = []
    watch_progress(monkeypatch, lambda done, total: bar.append((done, total)))
    _, losses, _, report = run(tiny, tiny[2], preview_every=100).args
    saved, record = load_lora(loras / "EraseAnything" / "star_00001.safetensors")
    figures = json.loads(record["figures"])
    assert layers(saved) >= ENTRANCES
    assert figures["steps"] == FAST.searches == 20  # a hard one: its solution is not trained
    assert HARDENED in report and HARDENED in told[-1]["message"] and SOFT not in report
    assert len(losses["loss"]) == figures["steps"]
    assert told[-1]["step"] == told[-1]["total"] == figures["steps"]
    assert states(told) == ["starting", "solving", "sampling", "solved", "hardening", "done"]
    drawn = [event["previews"] for event in told if event["previews"]]
    assert list(dict.fromkeys(each["step"] for each in drawn)) == [0, figures["steps"]]
    assert bar == sorted(set(bar)) and bar[-1] == (figures["forwards"], figures["forwards"])
    assert "at most" in report
    solved_is_the_replacement(drawn[0]["prompts"][0])


@pytest.mark.parametrize(
    ("recipe", "steps", "says"),
    [("fast", 20, HARDENED), ("hardened", 22, TEMPERED)],
    ids=["fast", "hardened"],
)
def test_hardened_trains_a_word_that_fast_only_solves(
    tiny: tuple[Any, ...],
    loras: Path,
    told: list[dict[str, Any]],
    recipe: str,
    steps: int,
    says: str,
) -> None:
    *_, report = run(tiny, recipe=recipe, steps=22).args
    assert told[-1]["step"] == told[-1]["total"] == steps
    assert says in report and says in told[-1]["message"]
    assert ("training" in states(told)) == (recipe == "hardened")


def solved_is_the_replacement(concept: dict[str, Any]) -> None:
    """Nearer to what the model drew for the replacement than to what it drew before."""
    now, before = (pixels(concept[name]) for name in ("after", "before"))
    replacement = pixels(concept["replacement"]["picture"])
    assert "star" not in concept["replacement"]["prompt"]
    assert (now - replacement).abs().mean() < 0.3 * (now - before).abs().mean()


def pixels(url: str) -> torch.Tensor:
    import base64
    import io

    import numpy as np
    from PIL import Image

    image = Image.open(io.BytesIO(base64.b64decode(url.split(",")[1])))
    return torch.from_numpy(np.asarray(image, dtype=np.float32))


def test_a_phrase_is_trained_and_said_to_be(tiny: tuple[Any, ...], loras: Path) -> None:
    widgets = {"concept": "red star", "steps": 2}
    state, _, _, report = run(tiny, **widgets).args
    assert TRAINED in report and "It ended at its limit of 3 steps." in report
    assert len(layers(state)) > len(ENTRANCES)


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_workflow_of_before_means_the_recipes_own_values(recipe: str) -> None:
    found = config_of({**DEFAULTS, **OLD, "recipe": recipe})
    assert found == EraseConfig.from_recipe(recipe, width=128, height=128)


@pytest.mark.parametrize("targets", ["text_pooled", "text_qk"])
def test_the_entrance_is_solved_whatever_else_is_trained(
    tiny: tuple[Any, ...], loras: Path, targets: str
) -> None:
    state, *_ = run(tiny, recipe="instant", targets=targets).args
    assert {name.removeprefix("transformer.") for name in layers(state)} == ENTRANCES


def test_steps_are_a_limit() -> None:
    assert config_of({**DEFAULTS, "recipe": "instant", "steps": 30}).steps == 0
    assert config_of({**DEFAULTS, "recipe": "fast", "steps": 30}).steps == 30
