"""Whatever is wrong with an input is said, with the remedy, before any work starts."""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy.model_management
import graph
import pytest
import torch
from eraseanything_pack.erase_engine.attention.recorder import AttentionRecorder
from eraseanything_pack.erase_engine.backends.comfy.model import model_description
from eraseanything_pack.erase_engine.lora.file import save_lora
from eraseanything_pack.nodes.attention import preview as attention
from eraseanything_pack.nodes.attention.watch import WatchAttention, WatchedAttention
from eraseanything_pack.nodes.lora.merge import MergeErasures
from eraseanything_pack.nodes.report.report import ErasureReport
from eraseanything_pack.nodes.training import erase, node_host
from eraseanything_pack.nodes.training.erase import EraseConcept
from eraseanything_pack.nodes.training.plan import PlanConcept
from safetensors.torch import save_file


@pytest.fixture(scope="module")
def model() -> Any:
    return graph.flux()


@pytest.fixture(scope="module")
def other_clip() -> Any:
    return graph.other_clip()


@pytest.fixture(autouse=True)
def _no_work(loras: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Loading a model, encoding a prompt or opening a session fails the test."""

    def work(*args: Any, **kwargs: Any) -> None:
        pytest.fail("work started")

    clip = graph.clip()
    monkeypatch.setattr(clip, "encode_from_tokens", work)
    monkeypatch.setattr(node_host, "training_session", work)
    monkeypatch.setattr(attention, "training_session", work)
    monkeypatch.setattr(comfy.model_management, "load_models_gpu", work)


LONG = " 7" * 600  # more tokens than the model reads

WIDGETS = {
    "empty concept": ({"concept": " "}, "Got the concept '', expected", "Write what should"),
    "prompt without it": (
        {"prompts": "a red circle"},
        "Got the concept 'star', which is not in the prompt 'a red circle'",
        "Write it word for word",
    ),
    "cut off": (
        {"prompts": f"{LONG} and a star"},
        "Got the concept 'star', which is cut off in the prompt '7 7 ",
        "Move the concept forward or shorten the prompt",
    ),
    "long concept": ({"concept": "z " * 300}, "Got concept 'z z", "Shorten it"),
    "kept and erased": (
        {"keep": "a blue star"},
        "Got 'a blue star' both to keep and to erase",
        "Remove the line",
    ),
    "rank 0": ({"rank": 0}, "Got rank 0, expected a whole number from 1", "Set rank within"),
    "resolution": ({"resolution": 100}, "Got resolution 100 pixels", "multiple of 16. Use 96"),
    "steps": ({"steps": -1}, "Got steps -1, expected", "Set steps within"),
}


@pytest.mark.parametrize("case", WIDGETS)
def test_widgets_of_erase(model: Any, case: str) -> None:
    widgets, names, remedy = WIDGETS[case]
    with pytest.raises(ValueError, match=names) as error:
        graph.erase(model, **widgets)
    assert re.search(remedy, str(error.value))


@pytest.mark.parametrize("recipe", [5, [], {}, 1.5, "\u202e" * 9, "esd"], ids=ascii)
def test_a_recipe_of_any_kind_is_told_on_the_page(recipe: object) -> None:
    """As a program may send it; the host asks the node, which knows what older ones were."""
    says = EraseConcept.validate_inputs(recipe)
    assert re.fullmatch(r"Got recipe .{1,80}, expected one of instant, fast, .*Choose fast.*", says)
    assert says.isprintable()


@pytest.mark.parametrize("run", [graph.erase, graph.look])
def test_half_a_letter_is_told_before_a_tokenizer_reads_it(model: Any, run: Any) -> None:
    """JSON can say it; the tokenizers' own error is of types."""
    name = "concept" if run is graph.erase else "prompt"
    with pytest.raises(ValueError, match=r"Got the .*'\\ud800'.*expected .*\. (Remove|Write) it"):
        run(model, **{name: "a red \ud800 star"})


SAYS = {"a text": "flux", "a number": 1.5, "an object": {"samples": [1]}, "nothing in it": {}}


@pytest.mark.parametrize("case", SAYS)
def test_what_a_program_writes_in_place_of_a_link(model: Any, case: str) -> None:
    """The host hands it to the node as it is."""
    value, vae = SAYS[case], SimpleNamespace(latent_channels=16)
    watch = AttentionRecorder("", torch.zeros(1, 1, 4), None, None)
    for name, run in (
        ("model", lambda: graph.erase(value)),
        ("plan", lambda: graph.erase(model, plan=value)),
        ("keep_images", lambda: graph.erase(model, vae=vae, keep_images=value)),
        ("clip", lambda: PlanConcept.execute(value, concept="star")),
        ("join", lambda: PlanConcept.execute(graph.clip(), join=value)),
        ("model", lambda: graph.apply(value)),
        ("lora", lambda: graph.apply(model, lora=value)),
        ("clip", lambda: MergeErasures.execute("sum", "", clip=value)),
        ("erased", lambda: graph.look(model, erased=value)),
        ("clip", lambda: WatchAttention.execute(model, value, graph.PROMPT, words="")),
        ("watch", lambda: WatchedAttention.execute(value, {}, 1)),
        ("latent", lambda: WatchedAttention.execute(watch, value, 1)),
        ("vae", lambda: ErasureReport.execute(model, model, graph.clip(), value)),
    ):
        says = rf"Got .* for {name}, expected an? [A-Z_]+.*\. Connect one"
        with pytest.raises(ValueError, match=says):
            run()


NAMES = [
    "../../x",
    "..",
    ".",
    " ./. ",
    "..safetensors",
    "a/../../b",
    "a/../b",
    "/etc/x",
    "//server/x",
    "a\\b",
    "..\\x",
    "C:x",
    "C:/x",
    "a\0b",
    "a\nb",
    "a\ud800b",
    "shapes/",
    "star.",
    "a /b",
    "x" * 201,
    "星" * 67,
    "\u202e星" * 900 + ":",
    "é/" * 3 + "星" * 100 + "/x",
    *("con/x", "NUL", "shapes/aux", "com1.old/x", "lpt9", "COM²"),
]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_file_name_stays_in_the_folder(model: Any, name: str) -> None:
    says = r"Got the file name .*models/loras.*Leave out '\.\.'"
    with pytest.raises(ValueError, match=says) as error:
        graph.erase(model, file_name=name)
    assert len(str(error.value)) < 400


def test_a_file_in_the_place_of_a_folder(model: Any, loras: Path) -> None:
    (loras / "shapes").write_bytes(b"")
    with pytest.raises(ValueError, match=r"Got the file name 'shapes/x', but shapes is a file"):
        graph.erase(model, file_name="shapes/x")


def test_a_model_that_is_not_flux(model: Any) -> None:
    unet = graph.unet()
    expected = r"Got UNetModel, expected a Flux, SD3, .* model\. Load FLUX\.1"
    for run in (
        lambda: graph.erase(unet),
        lambda: graph.look(unet),
        lambda: graph.look(model, erased=unet),
    ):
        with pytest.raises(ValueError, match=expected):
            run()
    lora = graph.connected(graph.lora_state(model))
    with pytest.raises(ValueError, match=r"0 fit this model \(BaseModel\).*load that model"):
        graph.apply(unet, lora=lora)


@pytest.mark.parametrize("run", [graph.erase, graph.look])
def test_text_encoders_that_are_not_fluxs(model: Any, other_clip: Any, run: Any) -> None:
    with pytest.raises(
        ValueError, match=r"Got text encoders \['l'\] and a model of Flux.*DualCLIPLoader"
    ):
        run(model, other_clip)


def test_a_checkpoint_without_text_encoders(model: Any) -> None:
    with torch.inference_mode(), pytest.raises(ValueError, match=r"Got no clip.*DualCLIPLoader"):
        erase.EraseConcept.execute(model, None, **graph.ERASE)


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"words": "star\ncircle"}, "Got 'circle' in words, which is not in the prompt 'a red"),
        ({"prompt": "", "words": ""}, "Got the prompt '', expected at least one word"),
        ({"prompt": " ... ", "words": ""}, "expected at least one word. Write what"),
        ({"prompt": "\u200b", "words": ""}, "expected at least one word. Write what"),
        ({"prompt": f"red {LONG} star", "words": "star"}, "cut off.*Move the concept forward"),
        ({"resolution": 72}, "Got resolution 72 pixels, expected a multiple of 16. Use 64"),
        (
            {"vae": SimpleNamespace(latent_channels=4)},
            "Got a vae with 4 latent channels.*Load the model",
        ),
        ({"view": "saliency", "contrast": "ring"}, "Got 'ring' in contrast, which is not in the"),
        ({"view": "saliency", "contrast": "star\nred"}, "Got 1 words to hold 'star' against"),
        ({"view": "saliency", "prompt": "red star"}, "expected at least 2. Write a longer prompt"),
        ({"blocks": "4"}, "Got blocks '4', expected numbers from 0 to 3"),
        ({"blocks": "0-999999999999"}, "expected numbers from 0 to 3, such as '0' or '0-3'"),
        ({"blocks": "1-0"}, "Name blocks that this model has"),
        ({"blocks": "late"}, "Got blocks 'late', expected numbers"),
    ],
)
def test_inputs_of_the_attention_preview(model: Any, inputs: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        graph.look(model, **inputs)


def test_apply_without_a_lora(model: Any) -> None:
    with pytest.raises(ValueError, match=r"Got no LoRA.*Choose a file, or connect LORA_MODEL"):
        graph.apply(model)


def test_apply_with_a_file_that_is_gone(model: Any) -> None:
    with pytest.raises(ValueError, match=r"Got the file 'gone.safetensors'.*Choose one"):
        graph.apply(model, file="gone.safetensors")


def test_apply_with_something_else_connected(model: Any) -> None:
    with pytest.raises(ValueError, match=r"Got the LoRA with 1 tensors, such as \['weight'\]"):
        graph.apply(model, lora={"weight": torch.zeros(2, 2)})


@pytest.mark.parametrize("kept", [0, 5, 40, 0.5, 0.99])
def test_apply_with_a_file_that_is_cut_off(model: Any, loras: Path, kept: float) -> None:
    path = save_lora(loras / "a.safetensors", graph.lora_state(model), {})
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data)) if kept < 1 else int(kept)])
    with pytest.raises(ValueError, match=r"Got a.safetensors, which is cut off.*train it again"):
        graph.apply(model, file="a.safetensors")


def test_apply_with_a_file_that_is_no_lora(model: Any, loras: Path) -> None:
    save_file({"weight": torch.zeros(2)}, loras / "a.safetensors")
    with pytest.raises(
        ValueError, match=r"Got a.safetensors with 1 tensors.*Give a LoRA in diffusers"
    ):
        graph.apply(model, file="a.safetensors")


OTHERS = {
    "wider": ({"hidden_size": 64, "num_heads": 4}, 0),
    "more blocks": ({"depth": 3}, 4),
    "fewer blocks": ({"depth": 1}, 2),
    "fewer single blocks": ({"depth_single_blocks": 1}, 4),
}


@pytest.mark.parametrize("recorded", [True, False], ids=["recorded", "unrecorded"])
@pytest.mark.parametrize("kind", OTHERS)
def test_apply_with_a_file_for_another_model(
    model: Any, loras: Path, kind: str, recorded: bool
) -> None:
    sizes, fitting = OTHERS[kind]
    other = graph.flux(**sizes)
    record = {"base_model": model_description(other)} if recorded else {}
    state = graph.lora_state(other)
    save_lora(loras / "a.safetensors", state, record)
    layers = len(state) // 3
    if not recorded and fitting == layers:
        return  # nothing in such a file tells it from one that was made for this model
    made_for = model_description(other) if recorded else "another model"
    says = f"Got a.safetensors with {layers} layers, of which {fitting} fit this model"
    with pytest.raises(ValueError, match=f"{says}.*{re.escape(made_for)}: load that model"):
        graph.apply(model, file="a.safetensors")
