"""Pictures before and during a training, and the one that stands beside its file."""

from __future__ import annotations

import base64
import errno
import io
import json
import os
from pathlib import Path
from typing import Any

import comfy.model_management
import graph
import pytest
import torch
from app.model_manager import ModelFileManager
from eraseanything_pack.erase_engine.contact_sheet import GAP, MARGIN, tensor_of
from eraseanything_pack.nodes.training import previews
from eraseanything_pack.nodes.training.previews import LONGEST_SIDE
from eraseanything_pack.tinyworld.load import load_tiny
from PIL import Image
from progress_hook import Cancel, interrupt_at

FILE = "EraseAnything/star_00001.safetensors"


@pytest.fixture(scope="module")
def vae() -> Any:
    return load_tiny("Flux")[2]


def erase(every: int, vae: Any, model: Any = None, **widgets: Any) -> dict[str, Any]:
    """The final event of a training with previews."""
    given = {**graph.ERASE, **widgets, "preview_every": every}
    with torch.inference_mode():
        output = graph.EraseConcept.execute(model or graph.flux(), graph.clip(), vae, **given)
    return output.ui["eraseanything"][0]


def test_previews_do_not_change_the_file(loras: Path, vae: Any) -> None:
    assert erase(0, vae)["previews"] is None
    assert erase(1, vae)["previews"]
    first, second = sorted(loras.rglob("*.safetensors"))
    assert first.read_bytes() == second.read_bytes()


def test_a_vae_that_pushes_the_model_out_does_not_change_the_file(
    loras: Path, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a card that is too small for both: what is put on the MODEL must come back too."""
    plain = graph.flux()
    state = graph.connected(graph.lora_state(plain))
    model = graph.apply(plain, lora=state).args[0]
    decode = type(vae).decode

    def decode_alone(self: Any, *args: Any, **options: Any) -> torch.Tensor:
        comfy.model_management.unload_all_models()
        return decode(self, *args, **options)

    erase(0, vae, model)
    monkeypatch.setattr(type(vae), "decode", decode_alone)
    erase(1, vae, model)
    first, second = sorted(loras.rglob("*.safetensors"))
    assert first.read_bytes() == second.read_bytes()


def test_a_vae_that_overflows_gives_black_pictures(
    loras: Path, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NaN among what the page is told is no JSON: it would read nothing of it."""
    decode = type(vae).decode
    monkeypatch.setattr(type(vae), "decode", lambda *given: decode(*given) * torch.nan)
    json.dumps(erase(1, vae)["previews"], allow_nan=False)


def test_a_preview_leaves_the_memory_that_the_training_reserved(
    loras: Path, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each time the MODEL is loaded again, and not only at the start."""
    model, load, reserved = graph.flux(), comfy.model_management.load_models_gpu, []

    def loading(models: Any, memory_required: float = 0, **options: Any) -> None:
        if model in models:
            reserved.append(memory_required)
        load(models, memory_required=memory_required, **options)

    monkeypatch.setattr(comfy.model_management, "load_models_gpu", loading)
    erase(1, vae, model)
    assert len(reserved) > 2  # before the training, and after each drawing
    assert set(reserved) == {reserved[0]} and reserved[0] > 0


def test_previews_show_what_the_training_did(loras: Path, vae: Any) -> None:
    widgets = {"steps": 3, "negative_guidance": 10.0, "targets": "text_all"}
    event = erase(2, vae, **widgets)
    assert erase(2, vae, **widgets)["previews"] == event["previews"]  # always from the same noise
    concept, keep = event["previews"]["prompts"]
    assert event["previews"]["step"] == 3  # the last step is always drawn
    assert (concept["role"], keep["role"]) == ("concept", "keep")
    assert "star" in concept["prompt"] and "star" not in keep["prompt"]
    assert "star" not in concept["replacement"]["prompt"] and "replacement" not in keep
    assert concept["replacement"]["picture"] not in (concept["before"], concept["after"])
    assert concept["change"] > 0 and concept["before"] != concept["after"]
    json.dumps(event, allow_nan=False)


def test_a_preview_says_the_word_once_where_a_prompt_does(loras: Path, vae: Any) -> None:
    event = erase(1, vae, steps=1, prompts="a star, star, star\na red star")
    assert event["previews"]["prompts"][0]["prompt"].count("star") == 1


def test_the_last_picture_stands_beside_the_file(loras: Path, vae: Any) -> None:
    """Where ComfyUI's list of models finds it, in the place of one whose LoRA is gone."""
    cover = loras / "EraseAnything/star_00001.preview.png"
    cover.parent.mkdir(parents=True)
    cover.write_bytes(b"old")
    event = erase(1, vae, steps=3, negative_guidance=10.0, targets="text_all")
    found = ModelFileManager().get_model_previews(str(loras / FILE))
    assert found == [str(cover)]
    concept = event["previews"]["prompts"][0]
    before, now = (decoded(concept[when]).resize((8, 8)) for when in ("before", "after"))
    with Image.open(cover) as sheet:
        size, left = LONGEST_SIDE, sheet.width - 2 * (LONGEST_SIDE + GAP) - MARGIN
        boxes = [(left + n * (size + GAP), sheet.height - MARGIN - GAP - size) for n in (0, 1)]
        cells = [sheet.crop((x, y, x + size, y + size)).resize((8, 8)) for x, y in boxes]
    for cell, own, other in ((cells[0], before, now), (cells[1], now, before)):
        assert apart(cell, own) < 0.5 * apart(own, other)


def test_a_stopped_training_or_one_without_previews_has_no_picture(
    loras: Path, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    erase(0, vae)
    interrupt_at(monkeypatch, 2)
    with pytest.raises(Cancel):
        erase(1, vae, file_name="stopped")
    assert len(list(loras.rglob("*.safetensors"))) == 2 and not list(loras.rglob("*.png"))


def test_a_picture_that_cannot_be_written_costs_no_lora(
    loras: Path, vae: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*args: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    monkeypatch.setattr(previews, "data_url", lambda picture: "")
    assert erase(1, vae)["state"] == "done" and (loras / FILE).is_file()
    assert not list(loras.rglob("*.png"))


def decoded(url: str) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGB")


def apart(one: Image.Image, other: Image.Image) -> float:
    return (tensor_of(one) - tensor_of(other)).abs().mean().item()


def test_pictures_are_small_jpegs(loras: Path, vae: Any) -> None:
    event = erase(1, vae, steps=1, resolution=272)
    for preview in event["previews"]["prompts"]:
        for when in ("before", "after"):
            kind, data = preview[when].split(",")
            assert kind == "data:image/jpeg;base64" and len(data) < 60_000
            image = decoded(preview[when])
            assert image.size == (LONGEST_SIDE, LONGEST_SIDE)


def test_a_finished_node_keeps_its_curve(loras: Path) -> None:
    event = erase(1, None)
    assert event["state"] == "done" and event["message"].startswith(f"Saved as {FILE}.\n")
    assert "appears instead" in event["message"]  # what the plan has to tell stays on the node
    assert event["steps"] == [1, 2, 3] and event["previews"] is None
    assert event["losses"].keys() == {"esd", "keep"}
    assert all(value is not None for values in event["losses"].values() for value in values)


def test_a_vae_of_another_model_is_refused_before_any_work(loras: Path) -> None:
    class Other:
        latent_channels = 4

    with pytest.raises(ValueError, match="Got a vae with 4 latent channels"):
        erase(1, Other())
