"""Merge Erasure LoRAs, solved anew: one closed form for what several files' plans erase."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import graph
import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import model_description
from eraseanything_pack.erase_engine.concepts.plan import ConceptPlan
from eraseanything_pack.erase_engine.concepts.planner import plan_concept
from eraseanything_pack.erase_engine.concepts.request import ConceptRequest
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.lora.file import load_lora, save_lora
from eraseanything_pack.erase_engine.lora.metadata import erasure_metadata
from eraseanything_pack.nodes.host.encode import encoder_for, ordinary_tensors
from eraseanything_pack.nodes.lora.merge import SLOTS, MergeErasures
from eraseanything_pack.nodes.lora.slots import EMPTY
from eraseanything_pack.tinyworld.load import load_tiny
from eraseanything_pack.tinyworld.planning import TINY_WORLD
from eraseanything_pack.tinyworld.vocabulary import SHAPE_NAMES
from pack_nodes import NODES, inputs_of

CONCEPTS = {"star": "object", "heart": "object"}


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any]:
    return load_tiny("Flux")[:2]


@pytest.fixture(scope="module")
def plans(tiny: tuple[Any, Any]) -> dict[str, ConceptPlan]:
    """Each planned apart; star would become a heart, which the other erases."""
    with ordinary_tensors():
        return {
            name: planned(tiny, name, kind, {"star": "heart"}.get(name, ""))
            for name, kind in CONCEPTS.items()
        }


def planned(tiny: tuple[Any, Any], name: str, kind: Any, instead: str = "") -> ConceptPlan:
    request = ConceptRequest(concept=name, kind=kind, replacement=instead)
    return plan_concept(request, encoder_for(tiny[1]), vocabulary=TINY_WORLD)


@pytest.fixture
def files(tiny: tuple[Any, Any], plans: dict[str, ConceptPlan], loras: Path) -> Path:
    for plan in plans.values():
        save(loras, plan, tiny[0])
    return loras


def save(loras: Path, planned: ConceptPlan, model: Any, **record: Any) -> None:
    """A file of this plan; what its adapters do is of no account."""
    config, figures = EraseConfig(), {"steps": 0, "forwards": 0, "last_losses": {}}
    made = erasure_metadata(
        figures, planned, config, base_model=model_description(model), host={"test": "0"}
    )
    given = {key: value for key, value in (made | record).items() if value is not None}
    state = graph.lora_state(model)
    save_lora(loras / f"{planned.concept}.safetensors", state, given, overwrite=True)


def solve(tiny: tuple[Any, Any], **inputs: Any) -> Any:
    slots = {f"file{slot}": EMPTY for slot in SLOTS} | {f"strength{slot}": 1.0 for slot in SLOTS}
    chosen = {"file_1": "star.safetensors", "file_2": "heart.safetensors", "file_name": "both"}
    given = {"model": tiny[0], "clip": tiny[1], **slots, **chosen, **inputs}
    with torch.inference_mode():
        return MergeErasures.execute(method="solve", **given)


def test_it_is_what_the_node_comes_with() -> None:
    """The other two harm neighbours: docs/measurements.md, several concepts."""
    assert inputs_of(NODES["EraseAnythingMerge"])["method"][1]["default"] == "solve"


@torch.inference_mode()
def entered(tiny: tuple[Any, Any], prompt: str, state: Any = None) -> torch.Tensor:
    """What the text's entrance makes of a prompt, (T, m)."""
    clip, layer = tiny[1], tiny[0].model.diffusion_model.txt_in
    text, _ = clip.encode_from_tokens(clip.tokenize(prompt), return_pooled=True)
    change = 0
    if state:
        down, up, alpha = (
            state[f"transformer.context_embedder.{name}"]
            for name in ("lora_A.weight", "lora_B.weight", "alpha")
        )
        change = text[0] @ down.T @ up.T * alpha / len(down)
    return layer(text[0]) + change


def test_each_concept_becomes_what_none_of_them_erases(
    tiny: tuple[Any, Any], plans: dict[str, ConceptPlan], files: Path
) -> None:
    """The file acts at the text's entrance alone; what names neither concept stays."""
    state, report = solve(tiny).args
    assert {key.split(".lora_")[0].removesuffix(".alpha") for key in state} == {
        "transformer.context_embedder",
        "transformer.time_text_embed.text_embedder.linear_1",
    }
    see = partial(entered, tiny)
    for name in CONCEPTS:
        moved = see(f"a red {name}", state)
        away = {word: (moved - see(f"a red {word}")).norm() for word in SHAPE_NAMES}
        assert min(away, key=away.__getitem__) not in CONCEPTS
    kept = see("a blue ring above a green square", state)
    stays = see("a blue ring above a green square")
    assert (kept - stays).norm() < 0.1 * stays.norm()
    assert "Solved for" in report and "held" in report


def test_a_merged_file_can_be_merged_again(tiny: tuple[Any, Any], files: Path) -> None:
    solve(tiny)
    record = load_lora(files / "both_00001.safetensors")[1]
    assert record["concept"] == "star + heart" and record["method"] == "solve"
    again = solve(tiny, file_2="both_00001.safetensors", file_name="again")
    assert again.args[1].startswith("Saved as again_00001.safetensors")


def test_the_model_is_as_it_was(tiny: tuple[Any, Any], files: Path) -> None:
    net = tiny[0].model.diffusion_model
    before = {name: weight.clone() for name, weight in net.state_dict().items()}
    solve(tiny)
    assert all(torch.equal(before[name], weight) for name, weight in net.state_dict().items())


def test_other_inputs_than_it_needs_are_named(tiny: tuple[Any, Any], files: Path) -> None:
    with pytest.raises(ValueError, match=r"solve without clip, expected both"):
        solve(tiny, clip=None)
    with pytest.raises(ValueError, match=r"strength 0\.5 for star\.safetensors with method solve"):
        solve(tiny, strength_1=0.5)


def test_a_phrase_is_refused(tiny: tuple[Any, Any], files: Path) -> None:
    """Beside a word that the entrance can tell it would pass for one, and take others along."""
    with ordinary_tensors():
        save(files, planned(tiny, "red circle", "object"), tiny[0])
    with pytest.raises(ValueError, match=r"red circle\.safetensors without .* Choose method fuse"):
        solve(tiny, file_1="red circle.safetensors")


FAULTS = {
    "without a record of its prompts": {"plan": None},
    "without sentences that are held": {"held": ()},
    "words are other tokens for this clip": {"tokens": (0,)},
    "made for another, with a model that is": {"base_model": "another"},
}


@pytest.mark.parametrize("fault", FAULTS)
def test_what_a_file_lacks_is_named(
    tiny: tuple[Any, Any], plans: dict[str, ConceptPlan], files: Path, fault: str
) -> None:
    fields = dict(FAULTS[fault])
    record = {name: fields.pop(name) for name in ("plan", "base_model") if name in fields}
    for plan in plans.values():
        if "tokens" in fields:
            pairs = tuple(replace(pair, tokens=fields["tokens"]) for pair in plan.pairs)
            plan = replace(plan, pairs=pairs)
        elif fields:
            plan = replace(plan, **fields)
        save(files, plan, tiny[0], **record)
    with pytest.raises(ValueError, match=fault):
        solve(tiny)
    assert not list(files.glob("both*"))
