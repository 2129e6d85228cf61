"""Generated workflows in the host's own check and executor: what runs comes as far as the work."""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from random import Random
from typing import Any

import execution
import folder_paths
import graph
import pytest
import server
from eraseanything_pack.erase_engine.backends.comfy.text_encoder import ComfyTextEncoder
from eraseanything_pack.erase_engine.concepts.plan import ConceptPlan
from eraseanything_pack.erase_engine.interfaces import Conditioning
from eraseanything_pack.erase_engine.lora.file import save_lora
from eraseanything_pack.erase_engine.training import run as training_run
from eraseanything_pack.nodes import demo
from eraseanything_pack.nodes.attention import preview
from eraseanything_pack.nodes.lora import fusion, solution
from eraseanything_pack.nodes.lora.merge import METHODS
from eraseanything_pack.nodes.report import drawing
from eraseanything_pack.nodes.training import plan as plan_node
from eraseanything_pack.tinyworld.models import build_vae, load_weights
from generated import holds, odd_json, odd_text, odd_tree, odd_value, several
from generated_files import odd_file
from pack_nodes import GIVEN, NODES, Anything, inputs_of
from word_encoder import plan

import nodes as host_nodes

CACHE = {"lru": 0, "ram": 0, "ram_inactive": 0}  # as without options
PACK = Path(__file__).parents[3]
PLAN = json.loads(plan("star", synonyms=("pentagram",), pairs=2).to_json())
PLAN |= {"held": PLAN["held"][:3], "keep": PLAN["keep"][:3]}
TINY = {"model": ["tiny", 0], "clip": ["tiny", 1]}
CONCEPT = {name: graph.ERASE[name] for name in graph.PLAN_FIELDS}
WORKFLOWS = {
    "train": {
        "plan": ("EraseAnythingPlan", {"clip": ["tiny", 1], **CONCEPT, "edited": ""}),
        "node": (
            "EraseAnythingTrain",
            {**TINY, **graph.ERASE, "vae": ["tiny", 2], "plan": ["plan", 0]},
        ),
    },
    "alone": {"node": ("EraseAnythingTrain", {**TINY, **graph.ERASE})},
    "plan": {
        "first": ("EraseAnythingPlan", {"clip": ["tiny", 1], **CONCEPT, "edited": ""}),
        "node": (
            "EraseAnythingPlan",
            {"clip": ["tiny", 1], **CONCEPT, "concept": "heart", "synonyms": "", "edited": ""}
            | {"join": ["first", 0]},
        ),
    },
    "apply": {
        "apply": (
            "EraseAnythingApply",
            {"model": ["tiny", 0], "file": "a.safetensors", "strength": 1.0, "start": 0.0}
            | {"end": 1.0, "file_2": "deep/b.safetensors", "strength_2": 0.5},
        ),
        "node": (
            "EraseAnythingAttention",
            {**TINY, **graph.LOOK, "model": ["apply", 0], "erased": ["tiny", 0]}
            | {"view": "saliency", "contrast": "", "blocks": ""},
        ),
    },
    "merge": {
        "node": (
            "EraseAnythingMerge",
            {**TINY, "method": "sum", "file_name": "both"}
            | {f"file_{n}": "(none)" for n in range(3, 9)}
            | {f"strength_{n}": 1.0 for n in range(1, 9)}
            | {"file_1": "a.safetensors", "file_2": "deep/b.safetensors"},
        ),
    },
    "watch": {
        "watch": ("EraseAnythingWatch", {**TINY, "prompt": graph.PROMPT, "words": "star\nred"}),
        "latent": ("EmptyLatentImage", {"width": 64, "height": 64, "batch_size": 1}),
        "node": (
            "EraseAnythingWatched",
            {"watch": ["watch", 2], "latent": ["latent", 0], "picture": 1, "vae": ["tiny", 2]},
        ),
    },
    "report": {
        "node": (
            "EraseAnythingReport",
            {**TINY, "erased": ["tiny", 0], "vae": ["tiny", 2], "erase_prompts": "star"}
            | {"keep_prompts": "heart", "steps": 1, "seed": 0, "resolution": 64, "pictures": 1},
        ),
    },
    "list": {
        "node": (
            "EraseAnythingPromptList",
            {**TINY, "vae": ["tiny", 2], "prompts": "case_number,prompt\n1,star\n", "pictures": 1}
            | {"folder_name": "stars", "steps": 1, "guidance": 3.5, "resolution": 64},
        ),
    },
}


class Started(Exception):
    """All checks are behind; the model would now be worked with."""


def work(*args: Any, **kwargs: Any) -> None:
    raise Started


@pytest.fixture(scope="module")
def parts() -> tuple[Any, ...]:
    """A random Flux for the tiny text encoders, these, and the tiny VAE."""
    return graph.flux(), graph.clip(), build_vae(load_weights("vae"))


@pytest.fixture
def files(loras: Path, parts: tuple[Any, ...]) -> Path:
    (loras / "deep").mkdir()
    for name in ("a", "deep/b"):
        record = {"concept": name, "plan": json.dumps(PLAN)}
        save_lora(loras / f"{name}.safetensors", graph.lora_state(parts[0]), record)
    return loras


def quickly(encoder: Any, prompts: list[str], **options: Any) -> Conditioning:
    """Reads them, and gives the features of another."""
    for prompt in prompts:
        encoder.token_ids(prompt)
    return graph.conditioning().take([0] * len(prompts))


class Refused(Exception):
    """The host itself refuses a prompt, in its own words."""


@pytest.fixture
def host(
    files: Path, parts: tuple[Any, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[Any], None]]:
    """Checks and runs a prompt as the host's server does, up to the work."""
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    monkeypatch.setattr(server.PromptServer, "instance", None, raising=False)
    monkeypatch.setattr(demo, "load_tiny", lambda name: parts)
    made = ConceptPlan.from_json(json.dumps(PLAN))
    monkeypatch.setattr(plan_node, "plan_together", lambda *args, **options: made)
    monkeypatch.setattr(training_run, "plan_concept", work)
    monkeypatch.setattr(training_run, "encode_prompts", work)
    monkeypatch.setattr(ComfyTextEncoder, "encode", quickly)
    for module in (preview, fusion, solution, drawing):
        monkeypatch.setattr(module, "training_session", work)
    for name, node in NODES.items():
        monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, name, node)
    monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, "Anything", Anything)
    logging.disable()  # the host's words about each, with tracebacks
    loop = asyncio.new_event_loop()
    running = server.PromptServer(loop)
    running.prompt_queue = execution.PromptQueue(running)
    yield lambda prompt: run(execution.PromptExecutor(running, cache_args=CACHE), prompt)
    loop.close()
    logging.disable(logging.NOTSET)


def run(executor: Any, prompt: Any) -> None:
    """ValueError for what our nodes say, Refused for what the host says of itself."""
    try:
        valid, _, outputs, found = asyncio.run(execution.validate_prompt("a", prompt, None))
    except Exception as error:
        assert not ours(traceback.format_tb(error.__traceback__)), f"in our check: {error}"
        raise Refused from None
    for error in (each for node in found.values() for each in node["errors"]):
        assert not ours(error["extra_info"].get("traceback", [])), f"in our check: {error}"
        if error["type"] == "custom_validation_failed":
            raise ValueError(error["details"].split(" - ", 1)[1])
    if not valid:
        raise Refused
    try:
        executor.execute(prompt, "a", {}, outputs)
    except Exception as error:
        assert not ours(traceback.format_tb(error.__traceback__)), f"in our nodes: {error}"
        raise Refused from None
    for event, told in executor.status_messages:
        if event == "execution_error" and ours(told["traceback"]):
            kind, text = told["exception_type"], told["exception_message"].removesuffix("\n")
            if kind == "ValueError":
                raise ValueError(text)
            assert kind.endswith("Started"), f"{kind}: {text}"
        elif event == "execution_error":
            raise Refused


def ours(frames: list[str]) -> bool:
    """Whether an exception comes from the pack."""
    return any(f"{PACK}/{room}/" in frame for frame in frames for room in ("nodes", "erase_engine"))


def prompt_of(name: str) -> dict[str, Any]:
    nodes = {"tiny": ("EraseAnythingTinyFlux", {}), **WORKFLOWS[name]}
    made = {
        node: {"class_type": kind, "inputs": dict(given)} for node, (kind, given) in nodes.items()
    }
    return deepcopy(made)


def odd_widget(prompt: dict[str, Any], rng: Random) -> dict[str, Any]:
    """One widget of one node holds something else."""
    inputs = rng.choice([node["inputs"] for name, node in prompt.items() if name != "tiny"])
    names = [name for name, value in inputs.items() if not isinstance(value, list)]
    if not names:
        return prompt
    name = rng.choice(names)
    value = inputs[name]
    if name == "edited" and rng.random() < 0.7:
        inputs[name] = odd_json(PLAN, rng)
    elif isinstance(value, str) and rng.random() < 0.7:
        inputs[name] = odd_text(value or "star", rng)
    else:
        inputs[name] = odd_value(value, rng)
    return prompt


def test_widgets(host: Callable[[Any], None]) -> None:
    def make(rng: Random) -> Any:
        return several(odd_widget, rng, prompt_of(rng.choice(list(WORKFLOWS))))

    holds("widgets", 350, make, host, unjudged=(Refused,))


def test_links(host: Callable[[Any], None], parts: tuple[Any, ...]) -> None:
    """What other nodes give, which the host hands on without a look."""

    def make(rng: Random) -> Any:
        prompt = prompt_of(rng.choice(list(WORKFLOWS)))
        ours = [node for node in prompt.values() if node["class_type"] in NODES][1:]
        node = rng.choice(ours)
        name = rng.choice(list(inputs_of(NODES[node["class_type"]])))
        before = node["inputs"].get(name, 0)
        node["inputs"][name] = ["odd", 0]
        prompt["odd"] = {"class_type": "Anything", "inputs": {}}
        odd = odd_value("" if isinstance(before, list) else before, rng)
        return prompt, rng.choice((odd, rng.choice(GIVEN), rng.choice((*GIVEN, *parts))))

    def give(given: tuple[Any, Any]) -> None:
        prompt, Anything.value = given
        host(prompt)

    holds("link", 250, make, give, unjudged=(Refused,))


def test_workflows(host: Callable[[Any], None]) -> None:
    def make(rng: Random) -> Any:
        return several(odd_tree, rng, prompt_of(rng.choice(list(WORKFLOWS))))

    holds("workflow", 120, make, host, unjudged=(Refused,))


def test_lora_files(host: Callable[[Any], None], files: Path) -> None:
    """Nothing is written of a LoRA that is refused."""
    path = files / "a.safetensors"
    whole = path.read_bytes()

    ways = [("apply", "start", 0.0), ("apply", "start", 0.2)]
    ways += [("merge", "method", each) for each in METHODS]

    def make(rng: Random) -> tuple[tuple[str, str, Any], bytes]:
        return rng.choice(ways), odd_file(whole, rng)

    def give(given: tuple[tuple[str, str, Any], bytes]) -> None:
        (name, widget, value), data = given
        path.write_bytes(data)
        prompt = prompt_of(name)
        prompt["node" if name == "merge" else name]["inputs"][widget] = value
        before = {each for each in files.rglob("*") if each.is_file()}
        try:
            host(prompt)
        finally:
            new = {each.name for each in files.rglob("*") if each.is_file()} - {
                b.name for b in before
            }
            assert len(new) <= (name == "merge")

    holds("LoRA file in a node", 130, make, give, unjudged=(Refused,))
