"""The file that Erase Concept writes: repeatable, loadable by the host, enough to train again."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import comfy.model_management
import execution
import folder_paths
import graph
import pytest
import server
import torch
from comfy_api.latest import io
from comfy_extras.nodes_train import LoraModelLoader
from eraseanything_pack.erase_engine.concepts.plan import ConceptPlan
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.lora.file import load_lora
from eraseanything_pack.erase_engine.training.encoded_prompts import encode_prompts
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.nodes.host.encode import encoder_for, ordinary_tensors
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.nodes.lora.files import lora_name, lora_stem, save_numbered
from eraseanything_pack.nodes.training.inputs import FAST
from eraseanything_pack.nodes.training.saved import remember, times_gone
from pack_nodes import CACHE, Host

import nodes as host_nodes

SEED = 5
FILE = "EraseAnything/star_00001.safetensors"
STATE = {"a.lora_A.weight": torch.ones(1, 2), "a.lora_B.weight": torch.ones(2, 1)}
SAVES = 150  # of each process


@pytest.fixture
def trained(loras: Path) -> tuple[Any, Path]:
    """A MODEL, and the file of an erasure for it."""
    model = graph.flux()
    graph.erase(model, seed=SEED)
    return model, loras / FILE


def test_the_hosts_loaders_give_the_same_picture(trained: tuple[Any, Path]) -> None:
    model, path = trained
    base = graph.picture(model)
    ours = graph.picture(graph.apply(model, file=FILE).args[0])
    with torch.inference_mode():
        (by_name,) = host_nodes.LoraLoaderModelOnly().load_lora_model_only(model, FILE, 1.0)
        file = host_nodes.comfy.utils.load_torch_file(str(path))
        (by_state,) = LoraModelLoader.execute(model, file, 1.0).args
    assert (ours - base).abs().max() > 1e-4  # more than what is allowed below
    for theirs in (graph.picture(by_name), graph.picture(by_state)):
        torch.testing.assert_close(theirs, ours, rtol=0, atol=1e-5)


def test_the_picture_is_the_same_once_the_model_was_freed(trained: tuple[Any, Path]) -> None:
    """Bit for bit: the host takes the LoRA off the weights, and puts it on again."""
    model, _ = trained
    erased = graph.apply(model, file=FILE).args[0]
    first = graph.picture(erased)
    for _ in range(2):
        comfy.model_management.unload_all_models()
        assert torch.equal(graph.picture(erased), first)


def test_a_file_of_a_second_folder_of_loras_is_found(
    trained: tuple[Any, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As extra_model_paths.yaml adds it; new ones are saved in the first."""
    model, path = trained
    other = tmp_path / "other disk"
    other.mkdir()
    moved = path.rename(other / "moved.safetensors")
    folders, endings = folder_paths.folder_names_and_paths["loras"]
    both = ([*folders, str(other)], endings)
    monkeypatch.setitem(folder_paths.folder_names_and_paths, "loras", both)
    assert torch.equal(
        graph.picture(graph.apply(model, file=moved.name).args[0]),
        graph.picture(graph.apply(model, lora=graph.connected(load_lora(moved)[0])).args[0]),
    )
    graph.erase(model, seed=SEED)
    assert path.exists() and [*other.iterdir()] == [moved]


def test_strength_0_is_the_models_own_picture(trained: tuple[Any, Path]) -> None:
    model, _ = trained
    nothing = graph.apply(model, file=FILE, strength=0.0).args[0]
    assert nothing is not model and not nothing.patches
    assert torch.equal(graph.picture(nothing), graph.picture(model))


def test_the_record_is_enough_to_train_again(trained: tuple[Any, Path]) -> None:
    model, path = trained
    expected, record = load_lora(path)
    plan = ConceptPlan.from_json(record["plan"])
    config = EraseConfig.from_json(record["config"])
    with ordinary_tensors():
        needed = {"contrast": config.weights.rsc > 0, "solve": config.solver == "solve"}
        encoded = encode_prompts(plan, encoder_for(graph.clip()), **needed)
    with training_session(model, guidance=config.guidance) as backend:
        generator = torch.Generator().manual_seed(config.seed)
        erasure = train_erasure(backend, encoded, config, generator=generator)
    trained_keys = {key for key in erasure.state if not key.endswith(".alpha")}
    assert trained_keys == expected.keys()
    assert all(torch.equal(erasure.state[key], expected[key]) for key in expected)
    assert json.loads(record["figures"])["forwards"] == erasure.forwards


def test_the_record_says_what_it_is(trained: tuple[Any, Path]) -> None:
    record = graph.record(trained[1])
    assert record["concept"] == "star" and record["format"] == "eraseanything"
    assert record["base_model"] == "Flux, 2 + 2 blocks, 32 wide, 2 heads"
    versions = json.loads(record["versions"])
    assert versions.keys() == {"eraseanything", "comfyui", "torch", "python"}
    assert versions["torch"] == torch.__version__
    counted = {name for name, weight in vars(FAST.weights).items() if weight > 0}
    assert json.loads(record["figures"])["last_losses"].keys() == counted


def test_lora_managers_read_what_it_is(trained: tuple[Any, Path]) -> None:
    data, record = trained[1].read_bytes(), graph.record(trained[1])
    behind_header = data[8 + int.from_bytes(data[:8], "little") :]
    expected = {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": "flux-1-dev/lora",
        "modelspec.title": "Erase star",
        "modelspec.description": record["modelspec.description"],
        "modelspec.hash_sha256": f"0x{hashlib.sha256(behind_header).hexdigest()}",
        "ss_base_model_version": "flux1",
        "ss_network_dim": "2",
        "ss_network_module": "networks.lora",
    }
    assert {key: record[key] for key in expected} == expected
    assert "star" in record["modelspec.description"]
    assert "modelspec.date" not in record  # with one, the same inputs would not give the same file


def test_one_seed_one_file(trained: tuple[Any, Path]) -> None:
    model, path = trained
    first = path.read_bytes()
    graph.erase(model, seed=SEED)
    assert path.read_bytes() == first  # nothing is overwritten
    assert path.with_name("star_00002.safetensors").read_bytes() == first
    graph.erase(model, seed=SEED + 1)
    other, _ = load_lora(path.with_name("star_00003.safetensors"))
    same, _ = load_lora(path)
    assert not any(torch.equal(other[key], same[key]) for key in same if key.endswith("weight"))


@pytest.mark.parametrize(
    ("name", "concept", "file"),
    [
        ("", "star", "EraseAnything/star_00001.safetensors"),
        ("", "Van Gogh's / style", "EraseAnything/Van_Gogh_s_style_00001.safetensors"),
        ("", "星", "EraseAnything/星_00001.safetensors"),
        ("", "星" * 200, f"EraseAnything/{'星' * 40}_00001.safetensors"),
        ("mine", "star", "mine_00001.safetensors"),
        ("", "Con", "EraseAnything/Con__00001.safetensors"),
        ("console/nullify", "star", "console/nullify_00001.safetensors"),
        (" shapes/mine.safetensors ", "star", "shapes/mine_00001.safetensors"),
        ("shapes/.mine v1.2", "star", "shapes/.mine v1.2_00001.safetensors"),
        ("x" * 200, "star", f"{'x' * 200}_00001.safetensors"),
    ],
)
def test_names(loras: Path, name: str, concept: str, file: str) -> None:
    stem = lora_stem(name, concept)
    path = save_numbered(stem, STATE, {})
    assert path == loras / file and lora_name(path) == file
    assert lora_name(save_numbered(stem, STATE, {})) == file.replace("00001", "00002")


def test_two_processes_that_save_one_name_lose_no_file(loras: Path) -> None:
    stem, children = lora_stem("both/star", ""), []
    for each in range(2):
        if child := os.fork():
            children.append(child)
            continue
        code = 1
        try:
            for number in range(SAVES):
                save_numbered(stem, STATE, {"by": f"{each} {number}"})
            code = 0
        finally:
            os._exit(code)
    assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
    found = sorted((loras / "both").iterdir())
    assert [path.name for path in found] == [
        f"star_{n + 1:05}.safetensors" for n in range(2 * SAVES)
    ]
    assert len({load_lora(path)[1]["by"] for path in found}) == 2 * SAVES


class Saver(io.ComfyNode):
    """Saves a file and remembers it, as Erase Concept does after a training."""

    define_schema = classmethod(
        lambda cls: io.Schema(
            "Saver", inputs=[io.String.Input("name")], outputs=[], is_output_node=True
        )
    )
    fingerprint_inputs = classmethod(lambda cls, **inputs: times_gone())

    @classmethod
    def execute(cls, name: str) -> io.NodeOutput:
        path = Path(folder_paths.get_folder_paths("loras")[0]) / name
        path.touch()
        remember(path)
        return io.NodeOutput()


def test_a_file_that_is_gone_is_made_again_and_no_other(
    loras: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    """Of another workflow's node with the same id, or of what this one made before."""
    monkeypatch.setattr(server.PromptServer, "instance", None, raising=False)
    monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, "Saver", Saver)
    host = Host(cache_type=execution.CacheType.LRU, cache_args=CACHE | {"lru": 9})
    request.addfinalizer(host.loop.close)

    def run(name: str) -> list[str]:
        host.run({"train": {"class_type": "Saver", "inputs": {"name": name}}})
        return sorted(path.name for path in loras.iterdir())

    run("star")
    assert run("heart") == run("star") == ["heart", "star"]
    (loras / "star").unlink()
    assert run("heart") == ["heart"]
    assert run("star") == ["heart", "star"]
    (loras / "star").unlink()
    assert run("star") == ["heart", "star"]
