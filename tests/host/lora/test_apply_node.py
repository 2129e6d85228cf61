"""Apply Erasure LoRA: what it adds, what it says, and when it runs again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import comfy.model_sampling
import graph
import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import model_description
from eraseanything_pack.erase_engine.lora.file import prefixed, save_lora
from eraseanything_pack.nodes.lora.apply import ApplyErasure
from eraseanything_pack.nodes.lora.slots import CONNECT, EMPTY
from safetensors.torch import save_file

FIGURES = {"steps": 16, "forwards": 1640, "last_losses": {"esd": 0.25, "keep": 0.001044288}}


@pytest.fixture
def model() -> Any:
    return graph.flux()


@pytest.fixture
def file(model: Any, loras: Path) -> str:
    record = {"concept": "star", "base_model": model_description(model), "figures": FIGURES}
    save_lora(loras / "shapes" / "star.safetensors", graph.lora_state(model), record)
    return "shapes/star.safetensors"


def test_strength_goes_from_the_model_to_the_erasure_and_beyond(model: Any, file: str) -> None:
    base = graph.picture(model)
    pictures = [
        graph.picture(graph.apply(model, file=file, strength=strength).args[0])
        for strength in (0.0, 0.01, 0.02)
    ]
    assert torch.equal(pictures[0], base)
    once, twice = (picture - base for picture in pictures[1:])
    torch.testing.assert_close(twice, 2 * once, rtol=0.1, atol=0.1 * float(once.abs().max()))
    assert torch.equal(graph.picture(model), base)


def test_a_connected_lora_is_used_instead_of_the_file(model: Any, file: str) -> None:
    lora = graph.connected(graph.lora_state(model, strength=0.1))
    mine = graph.picture(graph.apply(model, lora=lora).args[0])
    assert torch.equal(graph.picture(graph.apply(model, file=file, lora=lora).args[0]), mine)
    assert not torch.equal(graph.picture(graph.apply(model, file=file).args[0]), mine)


def test_it_says_what_the_file_is(model: Any, file: str) -> None:
    (text,) = graph.apply(model, file=file).ui.as_dict()["text"]
    assert text.splitlines() == [
        "shapes/star.safetensors erases 'star' at strength 1; all of its 4 layers fit this model.",
        "base model: Flux, 2 + 2 blocks, 32 wide, 2 heads",
        "training: 16 steps, 1,640 forward passes of one picture; losses at the end: erase 0.25, "
        "keep 0.00104",
    ]
    (text,) = graph.apply(model, lora=graph.connected(graph.lora_state(model))).ui.as_dict()["text"]
    assert text.startswith("the LoRA erases its concept at strength 1; ")


@pytest.mark.parametrize(
    ("strength", "says"),
    [
        (0.0, "is off: at strength 0 nothing of 'star' is erased; "),
        (-0.5, "acts backwards at strength -0.5, which erases nothing of 'star'; "),
    ],
)
def test_a_strength_that_erases_nothing_is_said(
    model: Any, file: str, strength: float, says: str
) -> None:
    (text,) = graph.apply(model, file=file, strength=strength).ui.as_dict()["text"]
    assert text.startswith(f"{file} {says}")


@pytest.mark.parametrize(
    "figures",
    [
        *("96% kept", "[]", "{}", '{"steps": "many"}', '{"last_losses": 3}', "[" * 100_000),
        '{"steps": 1, "forwards": 1, "last_losses": {"esd": 1%s}}' % ("0" * 400),
    ],
)
def test_figures_of_another_make_are_shown_as_they_are(
    model: Any, loras: Path, figures: str
) -> None:
    save_lora(loras / "a.safetensors", graph.lora_state(model), {"figures": figures})
    (text,) = graph.apply(model, file="a.safetensors").ui.as_dict()["text"]
    assert text.splitlines()[-1] == f"training: {figures[:197]}" + "..." * (len(figures) > 200)


def test_texts_of_a_file_are_shown_short_and_without_letters_nobody_sees(
    model: Any, loras: Path
) -> None:
    long = "\u202e\x1b[31m" + "z" * 100_000
    record = {"concept": long, "base_model": model_description(model), "figures": long}
    save_lora(loras / "a.safetensors", graph.lora_state(model), record)
    (text,) = graph.apply(model, file="a.safetensors").ui.as_dict()["text"]
    assert len(text) < 500 and "\u202e" not in text and "\x1b" not in text
    save_lora(loras / "b.safetensors", graph.lora_state(model), {"base_model": long})
    with pytest.raises(ValueError, match="It was made for  ") as error:
        graph.apply(model, file="b.safetensors")
    assert len(str(error.value)) < 600 and "\u202e" not in str(error.value)


def test_what_a_file_lacks_or_has_too_much_is_said(model: Any, loras: Path) -> None:
    state = graph.lora_state(model)
    idle = {key: 0 * value if "lora_B" in key else value for key, value in state.items()}
    extra = {"text_encoder.q_proj.lora_A.weight": torch.ones(2, 2)}
    save_file(prefixed(idle) | extra, loras / "a.safetensors", {"base_model": ""})
    (text,) = graph.apply(model, file="a.safetensors").ui.as_dict()["text"]
    assert text.splitlines()[1:] == [
        "1 tensors for text encoders in it were left out.",
        "All of its lora_B are zero: it changes nothing.",
    ]


@pytest.mark.parametrize("prefix", ["transformer.base_model.model.", "base_model.model.", ""])
def test_the_field_s_names_act_as_ours(model: Any, file: str, loras: Path, prefix: str) -> None:
    state = graph.lora_state(model)
    theirs = {prefix + key.removeprefix("transformer."): value for key, value in state.items()}
    save_file(theirs, loras / "a.safetensors")
    for during in RANGES:
        ours = graph.picture(graph.apply(model, file=file, **during).args[0])
        found = graph.picture(graph.apply(model, file="a.safetensors", **during).args[0])
        torch.testing.assert_close(found, ours, rtol=0, atol=1e-5)


def test_a_connected_lora_is_checked_as_a_file_is(model: Any) -> None:
    lora = graph.connected(graph.lora_state(model))
    key = next(key for key in lora if key.endswith("lora_B.weight"))
    with pytest.raises(ValueError, match=r"Got the LoRA with a weight of nan in .*lora_B"):
        graph.apply(model, lora={**lora, key: lora[key] * float("nan")})


def test_a_published_file_without_a_record_or_alphas(model: Any, loras: Path) -> None:
    """The form of the authors' own LoRA: bfloat16, no alpha, no metadata."""
    state = graph.lora_state(model)
    plain = {key: value for key, value in state.items() if not key.endswith(".alpha")}
    save_lora(loras / "a.safetensors", plain, {}, dtype=torch.bfloat16)
    erased = graph.picture(graph.apply(model, file="a.safetensors").args[0])
    expected = graph.picture(graph.apply(model, lora=graph.connected(state)).args[0])
    torch.testing.assert_close(erased, expected, rtol=0.1, atol=0.1)
    assert not torch.equal(erased, graph.picture(model))


def test_a_second_erasure_adds_to_the_first(model: Any, file: str) -> None:
    once = graph.apply(model, file=file, strength=0.5).args[0]
    twice = graph.apply(once, file=file, strength=0.5).args[0]
    full = graph.apply(model, file=file).args[0]
    torch.testing.assert_close(graph.picture(twice), graph.picture(full), rtol=0, atol=1e-4)


def test_it_runs_again_when_the_file_changes(file: str, loras: Path) -> None:
    for chosen in ({"file": file}, {"file": CONNECT, "file_4": file}):
        first = ApplyErasure.fingerprint_inputs(**chosen)
        assert ApplyErasure.fingerprint_inputs(**chosen) == first
        os.utime(loras / file)
        assert ApplyErasure.fingerprint_inputs(**chosen) != first


def test_the_list_shows_what_is_in_the_folder(file: str) -> None:
    _, options = ApplyErasure.INPUT_TYPES()["required"]["file"]
    assert options["options"] == [CONNECT, file]


# --- several files -----------------------------------------------------------------------------

RANGES = ({}, {"start": 0.3, "end": 0.8})


@pytest.fixture
def second(model: Any, loras: Path) -> str:
    """A LoRA that changes the picture otherwise than `file`."""
    save_lora(loras / "heart.safetensors", graph.lora_state(model, seed=1), {"concept": "heart"})
    return "heart.safetensors"


@pytest.mark.parametrize("during", RANGES, ids=["always", "in a range"])
def test_several_files_are_one_node_after_the_other(
    model: Any, file: str, second: str, during: dict[str, float]
) -> None:
    once = graph.apply(model, file=file, strength=0.5, **during).args[0]
    twice = graph.picture(graph.apply(once, file=second, strength=0.7, **during).args[0])
    slots = {"file_2": EMPTY, "strength_2": 1.0, "file_3": second, "strength_3": 0.7}
    at_once = graph.apply(model, file=file, strength=0.5, **slots, **during)
    torch.testing.assert_close(graph.picture(at_once.args[0]), twice, rtol=0, atol=1e-5)
    assert (twice - graph.picture(once)).abs().max() > 1e-3
    heads = [line.split(";")[0] for line in at_once.ui.as_dict()["text"][0].splitlines()]
    assert heads[0] == "shapes/star.safetensors erases 'star' at strength 0.5"
    assert "heart.safetensors erases 'heart' at strength 0.7" in heads


def test_a_connected_lora_takes_the_first_files_place_alone(
    model: Any, file: str, second: str
) -> None:
    lora = graph.connected(graph.lora_state(model, strength=0.1))
    both = graph.apply(model, file=file, lora=lora, file_2=second).args[0]
    mine = graph.apply(model, lora=lora).args[0]
    expected = graph.picture(graph.apply(mine, file=second).args[0])
    torch.testing.assert_close(graph.picture(both), expected, rtol=0, atol=1e-5)


def test_where_one_file_does_not_fit_it_is_named(model: Any, file: str, loras: Path) -> None:
    save_lora(
        loras / "other.safetensors", graph.lora_state(graph.flux(hidden_size=64, num_heads=4)), {}
    )
    with pytest.raises(ValueError, match=r"Got other\.safetensors with 4 layers, of which 0 fit"):
        graph.apply(model, file=file, file_2="other.safetensors")


# --- a part of sampling ------------------------------------------------------------------------


def test_two_halves_are_the_whole(model: Any, file: str) -> None:
    """A range ends before the next begins, and hooks do what patched weights do."""
    early = graph.apply(model, file=file, end=0.5).args[0]
    both = graph.apply(early, file=file, start=0.5).args[0]
    whole = graph.picture(graph.apply(model, file=file).args[0])
    torch.testing.assert_close(graph.picture(both), whole, rtol=0, atol=1e-4)
    halves = [graph.picture(graph.apply(model, file=file, **one).args[0]) for one in HALVES]
    for half in halves:
        assert (half - whole).abs().max() > 1e-3
        assert (half - graph.picture(model)).abs().max() > 1e-3


HALVES = ({"end": 0.5}, {"start": 0.5})


def test_outside_its_range_an_erasure_changes_no_bit(model: Any, file: str) -> None:
    base = graph.picture(model)
    erased = graph.apply(model, file=file, start=0.9999).args[0]  # after the last step's time
    assert torch.equal(graph.picture(erased), base)
    graph.picture(graph.apply(model, file=file, start=0.5).args[0])
    assert torch.equal(graph.picture(model), base)


def test_strength_holds_in_a_range_too(model: Any, file: str) -> None:
    erased = graph.apply(model, file=file, strength=0.5, end=0.9999).args[0]
    expected = graph.picture(graph.apply(model, file=file, strength=0.5).args[0])
    torch.testing.assert_close(graph.picture(erased), expected, rtol=0, atol=1e-4)


def test_a_look_inside_sees_the_range(model: Any, file: str) -> None:
    """The pack's own sampling goes through the same wrapper as the host's."""
    texts = [
        graph.look(each)[1]
        for each in (model, *(graph.apply(model, file=file, **one).args[0] for one in HALVES))
    ]
    assert len(set(texts)) == 3


def test_a_range_is_named_on_the_node(model: Any, file: str) -> None:
    (text,) = graph.apply(model, file=file, start=0.2).ui.as_dict()["text"]
    assert text.endswith("\nOn from 20% to 100% of sampling.")
    with pytest.raises(ValueError, match=r"Got start 0.5 and end 0.5, expected start below end"):
        graph.apply(model, file=file, start=0.5, end=0.5)


@pytest.mark.parametrize("batch", [1, 2])
def test_training_on_a_part_time_erasure_is_refused(
    model: Any, file: str, batch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before any work: not even a prompt is encoded."""
    erased = graph.apply(model, file=file, start=0.5).args[0]
    monkeypatch.setattr(graph.clip(), "encode_from_tokens", None)
    with pytest.raises(ValueError, match="Set start to 0 and end to 1 on Apply"):
        graph.erase(erased, batch=batch)


def test_a_range_is_one_of_sigma_whatever_time_the_net_is_given(model: Any, file: str) -> None:
    """This sampling object gives the net 1,000 times sigma, as Stable Diffusion 3's does."""

    class Sampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
        pass

    sampling = Sampling(model.model.model_config)
    sampling.set_parameters(shift=3.0, multiplier=1000)
    assert sampling.timestep(torch.ones(1)) == 1000
    model.add_object_patch("model_sampling", sampling)
    base, whole = (graph.picture(each) for each in (model, graph.apply(model, file=file).args[0]))
    early = graph.apply(model, file=file, end=0.5).args[0]
    both = graph.apply(early, file=file, start=0.5).args[0]
    torch.testing.assert_close(graph.picture(both), whole, rtol=0, atol=1e-4)
    assert (graph.picture(early) - base).abs().max() > 1e-3
    assert (graph.picture(early) - whole).abs().max() > 1e-3


def test_a_connected_lora_says_how_it_was_made(loras: Path) -> None:
    """And stays a plain dict of tensors to core's own nodes."""
    model = graph.flux()
    lora = graph.erase(model)[0]
    (text,) = graph.apply(model, lora=lora).ui.as_dict()["text"]
    first, base, training = text.splitlines()
    assert first.startswith("the LoRA erases 'star' at strength 1; all of its ")
    assert base.startswith("base model: Flux, 2 + 2 blocks") and training.startswith("training: ")
    assert isinstance(lora, dict)
