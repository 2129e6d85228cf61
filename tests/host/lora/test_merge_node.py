"""Merge Erasure LoRAs: one file that acts as several, with all of their records."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import graph
import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import ComfyFlowModel, model_description
from eraseanything_pack.erase_engine.lora.file import load_lora, save_lora
from eraseanything_pack.erase_engine.lora.grams import FusedLayers
from eraseanything_pack.erase_engine.training import disk
from eraseanything_pack.nodes.lora import merge as merge_module
from eraseanything_pack.nodes.lora.merge import SLOTS, MergeErasures
from eraseanything_pack.nodes.lora.slots import EMPTY

STAR, HEART = "EraseAnything/star_00001.safetensors", "EraseAnything/heart_00001.safetensors"


@pytest.fixture(scope="module")
def trained() -> dict[str, bytes]:
    """The files of two erasures, once a test has trained them."""
    return {}


@pytest.fixture
def model(loras: Path, trained: dict[str, bytes]) -> Any:
    """A MODEL with two erasures of it in the folder."""
    model = graph.flux()
    if not trained:
        strong = {"negative_guidance": 5.0, "steps": 4}
        graph.erase(model, **strong)
        graph.erase(model, concept="heart", synonyms="", **strong)
        trained |= {name: (loras / name).read_bytes() for name in (STAR, HEART)}
    for name, content in trained.items():
        (loras / name).parent.mkdir(exist_ok=True)
        (loras / name).write_bytes(content)
    return model


def merge(method: str = "sum", **inputs: Any) -> Any:
    slots = {f"file{slot}": EMPTY for slot in SLOTS} | {f"strength{slot}": 1.0 for slot in SLOTS}
    chosen = {"file_1": STAR, "file_2": HEART, "file_name": ""}
    with torch.inference_mode():
        return MergeErasures.execute(method=method, **{**slots, **chosen, **inputs})


def test_a_full_disk_is_met_before_the_work(
    model: Any, loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    monkeypatch.setitem(merge_module.WITH_MODEL, "fuse", None)
    before = sorted(loras.rglob("*"))
    with pytest.raises(ValueError, match=r"no room for the LoRA star_heart.* MB are needed"):
        merge("fuse", model=model, clip=graph.clip())
    assert sorted(loras.rglob("*")) == before


def test_a_sum_is_both_applied_one_after_the_other(model: Any, loras: Path) -> None:
    lora, report = merge(strength_2=0.5).args
    both = graph.apply(graph.apply(model, file=STAR).args[0], file=HEART, strength=0.5).args[0]
    expected = graph.picture(both)
    assert (expected - graph.picture(model)).abs().max() > 1e-4
    ours = graph.picture(graph.apply(model, lora=lora).args[0])
    torch.testing.assert_close(ours, expected, rtol=0, atol=1e-5)
    assert report.splitlines() == [
        "Saved as EraseAnything/star_heart_00001.safetensors",
        f"star, strength 1 ({STAR})",
        f"heart, strength 0.5 ({HEART})",
    ]
    by_name = graph.apply(model, file="EraseAnything/star_heart_00001.safetensors")
    torch.testing.assert_close(graph.picture(by_name.args[0]), expected, rtol=0, atol=1e-5)
    assert by_name.ui.as_dict()["text"][0].startswith(
        "EraseAnything/star_heart_00001.safetensors erases 'star + heart' at strength 1; "
    )


def test_a_fusion_changes_less_of_what_is_to_be_kept(model: Any, loras: Path) -> None:
    fused = merge("fuse", model=model, clip=graph.clip(), file_name="fused").args[0]
    summed = merge().args[0]
    keep = "a blue ring on a black background"
    base = graph.picture(model, keep)
    changes = [
        (graph.picture(graph.apply(model, lora=lora).args[0], keep) - base).norm()
        for lora in (fused, summed)
    ]
    assert 0 < changes[0] < changes[1]


def test_the_record_holds_all_parts(model: Any, loras: Path) -> None:
    merge(file_name="both", strength_1=0.7)
    _, record = load_lora(loras / "both_00001.safetensors")
    parts = json.loads(record["merged"])
    assert record["concept"] == "star + heart" and record["method"] == "sum"
    assert record["base_model"] == model_description(model)
    assert [part["strength"] for part in parts] == [0.7, 1.0]
    assert json.loads(parts[0]["plan"])["concept"] == "star"
    again = merge("fuse", model=model, clip=graph.clip(), file_1="both_00001.safetensors")
    assert again.args[1].startswith("Saved as EraseAnything/star_heart_heart_00001.safetensors")


def fuse(model: Any, **inputs: Any) -> Any:
    return merge("fuse", model=model, clip=graph.clip(), **inputs)


def test_a_fusion_says_what_it_took(model: Any, loras: Path) -> None:
    *parts, took = fuse(model).args[1].splitlines()
    assert len(parts) == 3
    assert re.fullmatch(r"Looked at \d+ prompts, with about \d+ MB beside the model's .*\.", took)
    assert "prompts" not in merge().args[1]


def test_a_gpu_that_is_too_small_for_a_fusion_is_named_before_any_work(
    model: Any, loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(loras.rglob("*"))
    on_gpu = model.clone()
    on_gpu.load_device = torch.device("cuda", 0)
    monkeypatch.setattr(comfy.model_management, "get_total_memory", lambda device: 10_000)
    with pytest.raises(ValueError, match=r"GPU with \d+ MB, expected .* Choose method sum"):
        fuse(on_gpu)
    assert sorted(loras.rglob("*")) == before


@pytest.mark.parametrize("where", ["text", "pass", "solution"])
def test_a_cancelled_fusion_writes_nothing_and_gives_the_model_back(
    model: Any, loras: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """As the host's cancel button does it, at the second prompt, pass or solved input."""
    owner, name = {
        "text": (graph.clip(), "encode_from_tokens"),
        "pass": (ComfyFlowModel, "velocity"),
        "solution": (FusedLayers, "solved"),
    }[where]
    own, calls = getattr(owner, name), []

    def counted(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            comfy.model_management.interrupt_current_processing()
        return own(*args, **kwargs)

    base, before = graph.picture(model), sorted(loras.rglob("*"))
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, counted)
        with pytest.raises(comfy.model_management.InterruptProcessingException):
            fuse(model)
    assert len(calls) == 2 and sorted(loras.rglob("*")) == before
    assert torch.equal(graph.picture(model), base)


def foreign(loras: Path, model: Any, **record: Any) -> str:
    save_lora(loras / "other.safetensors", graph.lora_state(model), record)
    return "other.safetensors"


def test_wrong_inputs_are_named_before_any_work(model: Any, loras: Path) -> None:
    before = sorted(loras.rglob("*"))
    with pytest.raises(ValueError, match=r"Got 1 files to merge, expected at least two"):
        merge(file_2=EMPTY)
    with pytest.raises(ValueError, match=r"fuse without model and clip, expected both"):
        merge("fuse")
    with pytest.raises(ValueError, match=r"fuse without clip"):
        merge("fuse", model=model)
    with pytest.raises(ValueError, match=r"expected a Flux, SD3, .* model"):
        merge("fuse", model=graph.unet(), clip=graph.clip())
    with pytest.raises(ValueError, match=r"bypass without model, expected the one that"):
        merge("bypass", file_2=EMPTY)
    with pytest.raises(ValueError, match=r"Got 0 files to merge, expected at least one"):
        merge("bypass", file_1=EMPTY, file_2=EMPTY, model=model)
    with pytest.raises(ValueError, match=r"of which \d fit this model .*load that model"):
        merge("bypass", model=graph.flux(hidden_size=64, num_heads=4))
    with pytest.raises(ValueError, match=r"'gone\.safetensors', which is not in models/loras"):
        merge(file_1="gone.safetensors")
    with pytest.raises(ValueError, match=r"file name '\.\./x'"):
        merge(file_name="../x")
    assert sorted(loras.rglob("*")) == before


def test_parts_of_other_models_and_without_a_record_are_named(model: Any, loras: Path) -> None:
    other = foreign(loras, model, concept="dog", base_model="Flux, 19 + 38 blocks")
    with pytest.raises(ValueError, match=r"different models \(.*19 \+ 38 blocks\)"):
        merge(file_2=other)
    (loras / other).unlink()
    foreign(loras, model, concept="dog", base_model=model_description(model))
    with pytest.raises(ValueError, match=r"other\.safetensors without a record of its prompts"):
        merge("fuse", model=model, clip=graph.clip(), file_2=other)


RECORDS = ["null", '"plan"', "5", '{"a": 1}', "[1, 2]", '[{"plan": 5}]', "[" * 100_000, "{"]


def test_files_of_other_makes_are_named_and_their_texts_shown_short(
    loras: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a training: two files as they come."""
    model = graph.flux()
    state = graph.lora_state(model)
    save_lora(loras / "a.safetensors", state, {"concept": "\u202e" + "z" * 100_000})
    wide = {key: torch.cat([each, each], -1) for key, each in state.items() if "lora_A" in key}
    save_lora(loras / "wide.safetensors", {**state, **wide}, {})
    files = {"file_1": "a.safetensors", "file_2": "wide.safetensors"}
    says = r"Got wide\.safetensors with \(.*\) numbers in and out of .*, expected .*a\.safetensors"
    with pytest.raises(ValueError, match=says):
        merge(**files)
    report = merge(**{**files, "file_2": "a.safetensors"}, file_name="both").args[1]
    assert len(report) < 400 and "\u202e" not in report
    assert len(load_lora(loras / "both_00001.safetensors")[1]["concept"]) < 200
    for number, merged in enumerate(RECORDS):
        name = f"{number}.safetensors"
        save_lora(loras / name, state, {"merged": merged, "concept": "dog"})
        with pytest.raises(ValueError, match=r"Got .*expected .*Choose method sum"):
            fuse(model, file_1=name, file_2=name)
