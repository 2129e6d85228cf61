"""Every widget of every node at its edges: the least, the most, nothing, and the absurd.

The nodes run on tiny models. A widget that has no edges here fails the first test.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import execution
import graph
import pytest
import torch
from eraseanything_pack.erase_engine.lora.file import save_lora
from eraseanything_pack.nodes.attention import preview as attention
from eraseanything_pack.nodes.lora import apply, merge
from eraseanything_pack.nodes.lora.files import lora_file_path
from eraseanything_pack.nodes.report import drawing
from eraseanything_pack.nodes.training import node_host
from eraseanything_pack.nodes.training.inputs import recipe_fault
from eraseanything_pack.nodes.training.plan import PlanConcept
from eraseanything_pack.tinyworld.models import build_vae, load_weights
from pack_nodes import NODES
from watching import ksampler, watch
from widget_edges import (
    APPLY,
    FILES,
    HEAVY,
    LONGEST_ERROR,
    LOOK,
    MERGE,
    NOTHING,
    OUTSIDE,
    PLAN,
    REPORT,
    RUNS,
    TEXT_EDGES,
    TEXTS,
    TOGETHER,
    TRAIN,
    WATCH,
    WATCHED,
    WIDGETS,
)

import nodes as host_nodes


class Started(Exception):
    """All checks are behind; the model would now be worked with."""


@pytest.fixture(scope="module")
def model() -> Any:
    return graph.flux()


@pytest.fixture(scope="module")
def wires(model: Any) -> dict[str, Any]:
    """What is connected where a node must have it."""
    patched, positive, eye = watch(model)
    return {
        "model": model,
        "erased": model,
        "clip": graph.clip(),
        "vae": build_vae(load_weights("vae")),
        "watch": eye,
        "latent": ksampler(patched, positive),
    }


@pytest.fixture(scope="module")
def plan() -> str:
    """How the LoRAs in the list say that they were trained."""
    widgets = {name: graph.ERASE[name] for name in graph.PLAN_FIELDS}
    return PlanConcept.execute(graph.clip(), **widgets).args[0].plan.to_json()


@pytest.fixture
def files(loras: Path, model: Any, plan: str) -> list[str]:
    """Two LoRAs of the model, as they are chosen from the list."""
    for name in ("a", "b"):
        record = {"concept": name, "plan": plan}
        save_lora(loras / f"{name}.safetensors", graph.lora_state(model), record)
    return ["a.safetensors", "b.safetensors"]


Objective = Callable[..., None]


@pytest.fixture
def run(wires: dict[str, Any], files: list[str]) -> Objective:
    """Runs a node as the host would, with as little to do as its other widgets allow."""
    applied, merged = (
        {f"file{slot}": files[0] for slot in slots} for slots in (apply.SLOTS, merge.SLOTS)
    )
    small = {
        TRAIN: {**graph.ERASE, "steps": 1},
        PLAN: {"concept": "star"},
        APPLY: applied,
        MERGE: {**merged, "method": "sum", "model": wires["model"], "clip": wires["clip"]},
        LOOK: {**graph.LOOK, "steps": 1, "words": ""},
        WATCH: {"prompt": graph.PROMPT},
        **{alone: {} for alone in (WATCHED, "EraseAnythingTinyFlux")},
        "EraseAnythingPromptList": {"prompts": "prompt\nstar", "steps": 1, "resolution": 64},
        REPORT: {"erase_prompts": "star", "keep_prompts": "heart", "steps": 1, "resolution": 64},
    }

    def run(node_id: str, **widgets: Any) -> None:
        wired = {name: wires[name] for name in sockets_of(node_id)}
        with torch.inference_mode():
            inputs = {**wired, **defaults_of(node_id), **small[node_id], **widgets}
            NODES[node_id].execute(**inputs)

    return run


def sockets_of(node_id: str) -> list[str]:
    """What must be connected."""
    required = NODES[node_id].INPUT_TYPES()["required"]
    return [name for name in required if (node_id, name) not in WIDGETS]


def defaults_of(node_id: str) -> dict[str, Any]:
    return {
        name: options["default"]
        for (node, name), (_, options) in WIDGETS.items()
        if node == node_id
    }


@pytest.fixture
def stops_at_work(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(*args: Any, **kwargs: Any) -> None:
        raise Started

    for module in (node_host, attention, drawing):
        monkeypatch.setattr(module, "training_session", work)


def holds(run: Objective, expected: str, node_id: str, **widgets: Any) -> None:
    """The node runs, or says what is wrong in words that a person reads."""
    if expected is RUNS:
        run(node_id, **widgets)
        return
    with pytest.raises(ValueError, match=re.compile(expected, re.DOTALL)) as error:
        run(node_id, **widgets)
    assert len(str(error.value)) <= LONGEST_ERROR


def test_every_widget_has_edges() -> None:
    texts = {key for key, (kind, _) in WIDGETS.items() if kind == "STRING"}
    assert texts == TEXT_EDGES.keys()
    assert all(edges.keys() == TEXTS.keys() for edges in TEXT_EDGES.values())
    lists = {key for key, (_, has) in WIDGETS.items() if NOTHING & set(has.get("options", ()))}
    assert lists == FILES
    others = {kind for kind, _ in WIDGETS.values()} - {"STRING", "INT", "FLOAT", "COMBO", "BOOLEAN"}
    assert others == set()


def of_kind(*kinds: str) -> list[tuple[str, str]]:
    return [key for key, (kind, _) in WIDGETS.items() if kind in kinds]


@pytest.mark.parametrize("label", TEXTS)
@pytest.mark.parametrize("key", of_kind("STRING"), ids=".".join)
def test_texts(run: Objective, key: tuple[str, str], label: str) -> None:
    node_id, name = key
    holds(run, TEXT_EDGES[key][label], node_id, **{name: TEXTS[label]})


EXTREMES = [
    (node_id, name, WIDGETS[node_id, name][1][edge])
    for node_id, name in of_kind("INT", "FLOAT")
    for edge in ("min", "max")
]


@pytest.mark.parametrize("edge", EXTREMES, ids=lambda edge: f"{edge[0]}.{edge[1]}={edge[2]}")
def test_the_least_and_the_most(run: Objective, edge: tuple[str, str, float], request: Any) -> None:
    node_id, name, value = edge
    assert refusal(node_id, **{name: value}) == ""
    if (node_id, name) in HEAVY and value == WIDGETS[node_id, name][1]["max"]:
        request.getfixturevalue("stops_at_work")
        with pytest.raises(Started):
            run(node_id, **{name: value})
        return
    holds(run, TOGETHER.get(edge, RUNS), node_id, **{name: value})


@pytest.mark.parametrize("key", of_kind("INT", "FLOAT"), ids=".".join)
def test_the_host_refuses_what_lies_beyond(key: tuple[str, str]) -> None:
    node_id, name = key
    options = WIDGETS[key][1]
    step = 1 if WIDGETS[key][0] == "INT" else 0.001
    least, most = options["min"] - step, options["max"] + step
    assert "smaller than min" in refusal(node_id, **{name: least})
    assert "bigger than max" in refusal(node_id, **{name: most})
    for absurd in ("many", None, [], {}, ""):
        assert refusal(node_id, **{name: absurd}) != ""


@pytest.mark.parametrize("key", of_kind("FLOAT"), ids=".".join)
def test_what_is_no_number(run: Objective, key: tuple[str, str]) -> None:
    """The host's own check lets it through."""
    node_id, name = key
    assert refusal(node_id, **{name: float("nan")}) == ""
    holds(run, r"Got .*\bnan\b.*, expected .*\. Set ", node_id, **{name: float("nan")})


# Choices that want something more: what is said without it, or what to give.
WANTING = {"relation": (RUNS, {"replace_with": "circle"}), "solve": ("which was made for None", {})}


# Each choice of these is a training.
TRAINED = [("EraseAnythingTrain", name) for name in ("kind", "recipe", "targets")]
CHOICES = [
    pytest.param(key, marks=[pytest.mark.thorough] if key in TRAINED else [])
    for key in of_kind("COMBO", "BOOLEAN")
]


@pytest.mark.parametrize("key", CHOICES, ids=".".join)
def test_choices(run: Objective, files: list[str], key: tuple[str, str]) -> None:
    node_id, name = key
    kind, options = WIDGETS[key]
    for choice in files if key in FILES else options.get("options", (False, True)):
        if choice not in NOTHING:
            says, more = WANTING.get(choice, (RUNS, {}))
            holds(run, says, node_id, **{name: choice}, **more)
    if kind == "COMBO":
        says = r"Got .*'nope',.* expected one (of .*|that is)\. Choose one"
        holds(run, says, node_id, **{name: "nope"})


@pytest.mark.parametrize("file", OUTSIDE)
@pytest.mark.parametrize("key", sorted(FILES), ids=".".join)
def test_files_outside_the_folder(run: Objective, key: tuple[str, str], file: str) -> None:
    node_id, name = key
    says = r"Got the file '.*', which is not in models/loras, expected one that is\. Choose one f"
    holds(run, says, node_id, **{name: file})


@pytest.mark.parametrize("file", [5, [], {}], ids=repr)
@pytest.mark.parametrize("node_id", [APPLY, MERGE])
def test_files_that_are_no_names(run: Objective, node_id: str, file: object) -> None:
    """As a program may send them; the host asks the nodes, which find other systems' names too."""
    for name in sorted(name for node, name in FILES if node == node_id):
        holds(run, r"Got the file .*, which is not in models/loras", node_id, **{name: file})
        if file not in ([], {}):
            assert "which is not in models/loras" in refusal(node_id, **{name: file})


def test_linked_choices_are_looked_at_when_they_come() -> None:
    """Before a run the host says None of what another node will give."""
    for node_id, name in sorted(FILES):
        assert refusal(node_id, **{name: None}) == ""
    assert recipe_fault(None) == ""


@pytest.mark.parametrize("node_id", [APPLY, MERGE])
def test_a_windows_workflow_s_files_are_found(files: list[str], loras: Path, node_id: str) -> None:
    (loras / "deep").mkdir()
    shutil.copy(loras / files[0], loras / "deep" / "star.safetensors")
    for name in sorted(name for node, name in FILES if node == node_id):
        assert refusal(node_id, **{name: "deep\\star.safetensors"}) == ""
    assert lora_file_path("deep\\star.safetensors") == loras / "deep" / "star.safetensors"


# Nodes that a prompt for the host's check can take things from.
TINY = {"model": ["tiny", 0], "clip": ["tiny", 1]}
SOURCES = {
    "tiny": {"class_type": "EraseAnythingTinyFlux", "inputs": {}},
    "watch": {"class_type": WATCH, "inputs": {**TINY, "prompt": "star", "words": ""}},
    "latent": {
        "class_type": "EmptyLatentImage",
        "inputs": {"width": 64, "height": 64, "batch_size": 1},
    },
}
TAKEN = {**TINY, "erased": ["tiny", 0], "vae": ["tiny", 2], "watch": ["watch", 2]} | {
    "latent": ["latent", 0]
}


def refusal(node_id: str, **widgets: Any) -> str:
    """What the host's own check of a prompt says of a node; "" where it takes it."""
    wired = {name: TAKEN[name] for name in sockets_of(node_id)}
    inputs = {**wired, **defaults_of(node_id), **widgets}
    prompt = {**SOURCES, "node": {"class_type": node_id, "inputs": inputs}}
    with pytest.MonkeyPatch.context() as patch:
        for name, node in NODES.items():
            patch.setitem(host_nodes.NODE_CLASS_MAPPINGS, name, node)
        valid, errors, _ = asyncio.run(execution.validate_inputs("test", prompt, "node", {}))
    assert valid == (not errors)
    return "\n".join(f"{error['message']}: {error['details']}" for error in errors)
