"""LoRA files: what is saved is loaded, the same input gives the same bytes, damage is named."""

from __future__ import annotations

import json
import os
import resource
import tracemalloc

import pytest
import torch
from lora_states import LAYERS
from safetensors.torch import save_file

from erase_engine.lora import file as lora_file
from erase_engine.lora.file import load_lora, lora_state, read_metadata, save_lora

METADATA = {"format": "1", "plan": {"prompts": ["a «cat»"], "count": 3}, "rate": 0.5, "a": None}


def test_save_then_load_equals(tmp_path, state):
    path = save_lora(tmp_path / "deep" / "cat.safetensors", state, METADATA)
    found, metadata = load_lora(path)
    assert sorted(found) == sorted(key for key in state if not key.endswith(".alpha"))
    assert all(torch.equal(found[key], state[key]) for key in found)
    assert metadata["format"] == "1" and json.loads(metadata["plan"]) == METADATA["plan"]
    assert read_metadata(path) == metadata


def test_keys_on_disk_are_those_of_diffusers(tmp_path, state):
    from safetensors import safe_open

    with safe_open(save_lora(tmp_path / "a.safetensors", state, {}), "pt") as file:
        assert f"transformer.{LAYERS[0]}.lora_A.weight" in file.keys()  # noqa: SIM118
        assert not any(key.endswith(".alpha") for key in file.keys())  # noqa: SIM118


def test_same_input_same_bytes(tmp_path, state):
    one = save_lora(tmp_path / "one.safetensors", state, METADATA)
    turned = dict(reversed(state.items()))
    other = save_lora(tmp_path / "two.safetensors", turned, dict(reversed(METADATA.items())))
    assert one.read_bytes() == other.read_bytes()


def test_the_strength_is_inside_b(tmp_path, state):
    """diffusers ignores an alpha for some families, and refuses it for others."""
    up, down, alpha = (
        f"{LAYERS[0]}.{part}" for part in ("lora_B.weight", "lora_A.weight", "alpha")
    )
    state[alpha] = torch.tensor(3.0 * len(state[down]))
    found, _ = load_lora(save_lora(tmp_path / "a.safetensors", state, {}))
    assert torch.equal(found[up], 3 * state[up]) and torch.equal(found[down], state[down])


def test_bfloat16_halves_the_weights(tmp_path, state):
    path = save_lora(tmp_path / "a.safetensors", state, {}, dtype=torch.bfloat16)
    found, _ = load_lora(path)
    key = f"{LAYERS[0]}.lora_A.weight"
    assert torch.equal(found[key], state[key].bfloat16())


def test_an_existing_file_is_kept_unless_told(tmp_path, state):
    path = save_lora(tmp_path / "a.safetensors", state, {"n": "1"})
    with pytest.raises(FileExistsError, match="which exists"):
        save_lora(path, state, {"n": "2"})
    assert read_metadata(path) == {"n": "1"}
    save_lora(path, state, {"n": "2"}, overwrite=True)
    assert read_metadata(path) == {"n": "2"}


def test_a_failed_write_leaves_nothing(tmp_path, state, monkeypatch):
    path = save_lora(tmp_path / "a.safetensors", state, {"n": "1"})
    before = path.read_bytes()

    def fail(*args):
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="disk full"):
        save_lora(path, state, {"n": "2"}, overwrite=True)
    assert [each.name for each in tmp_path.iterdir()] == ["a.safetensors"]
    assert path.read_bytes() == before


def test_metadata_that_json_cannot_hold_is_refused_before_writing(tmp_path, state):
    with pytest.raises(ValueError, match="JSON"):
        save_lora(tmp_path / "a.safetensors", state, {"loss": float("nan")})
    assert not list(tmp_path.iterdir())


def damaged(kind, whole):
    size = int.from_bytes(whole[:8], "little")
    return {
        "empty": b"",
        "cut_in_size": whole[:5],
        "cut_in_header": whole[:40],
        "cut_in_data": whole[:-5],
        "header_larger_than_file": (len(whole) * 2).to_bytes(8, "little") + whole[8:],
        "header_of_exabytes": (2**62).to_bytes(8, "little") + whole[8:],
        "header_not_json": whole[:8] + b"\xff" * size + whole[8 + size :],
        "header_a_list": (2).to_bytes(8, "little") + b"[]",
        "deep_header": (200_000).to_bytes(8, "little") + b"[" * 200_000,
        "offsets_lie": whole.replace(b'"data_offsets":[0,', b'"data_offsets":[9,', 1),
        "pickle": b"PK\x03\x04" + b"\0" * 200,
        "html": b"<!DOCTYPE html><html><body>Not found</body></html>",
    }[kind]


KINDS = [
    *("empty", "cut_in_size", "cut_in_header", "cut_in_data", "header_larger_than_file"),
    *("header_of_exabytes", "header_not_json", "header_a_list", "deep_header", "offsets_lie"),
    *("pickle", "html"),
]


@pytest.mark.parametrize("kind", KINDS)
def test_damage_is_named(tmp_path, state, kind):
    whole = save_lora(tmp_path / "whole.safetensors", state, METADATA).read_bytes()
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(damaged(kind, whole))
    with pytest.raises(ValueError, match=r"Got broken.safetensors, which is cut off or not"):
        load_lora(broken)


@pytest.mark.parametrize(
    "tensors",
    [
        {"double_blocks.0.img_attn.qkv.weight": torch.zeros(2, 2)},
        {"lora_unet_double_blocks_0_txt_attn_qkv.lora_down.weight": torch.zeros(2, 2)},
        {"double_blocks.0.img_attn.qkv.lora_A.weight": torch.zeros(2, 2)},
        {"diffusion_model.double_blocks.0.img_attn.qkv.lora_A.weight": torch.zeros(2, 2)},
        {"text_encoder.layers.0.lora_A.weight": torch.zeros(2, 2)},
        {},
    ],
    ids=["checkpoint", "kohya", "hosts_own", "hosts_own_prefixed", "text_encoder", "nothing"],
)
def test_foreign_files_are_named(tmp_path, tensors):
    save_file(tensors, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match=r"Got other.safetensors with \d tensors") as error:
        load_lora(tmp_path / "other.safetensors")
    assert all(key in str(error.value) for key in tensors)


def test_a_whole_checkpoint_is_refused_by_its_header_alone(tmp_path):
    """A file of 4 GB, all of it a hole: nothing of that size is read."""
    path, size = tmp_path / "flux.safetensors", 4 * 2**30
    tensor = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"double_blocks.0.img_attn.qkv.weight": tensor, "__metadata__": {"n": "1"}})
    header += " " * (-len(header) % 8)
    path.write_bytes(len(header).to_bytes(8, "little") + header.encode())
    os.truncate(path, 8 + len(header) + size)
    tracemalloc.start()
    before = resident_bytes()
    try:
        with pytest.raises(ValueError, match=r"Got flux.safetensors with 1 tensors, such as"):
            load_lora(path)
        assert read_metadata(path) == {"n": "1"}
        assert tracemalloc.get_traced_memory()[1] < 2**20
    finally:
        tracemalloc.stop()
    assert resident_bytes() - before < 2**26


def resident_bytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_what_is_loaded_is_not_the_file(tmp_path, state):
    """Who writes over the file later changes nothing of it."""
    path = save_lora(tmp_path / "a.safetensors", state, {})
    found, _ = load_lora(path)
    with path.open("r+b") as file:
        file.write(b"\xff" * path.stat().st_size)
    assert all(torch.equal(found[key], state[key]) for key in found)


def test_weights_and_record_are_of_one_reading(tmp_path, state, monkeypatch):
    """Who replaces the file while it is read gets neither, or both."""
    path = save_lora(tmp_path / "a.safetensors", state, {"concept": "star"})
    other = {key: torch.zeros_like(value) for key, value in state.items()}
    save_lora(tmp_path / "b.safetensors", other, {"concept": "heart"})
    own = lora_file._check_values

    def replaced(name, found):
        own(name, found)
        (tmp_path / "b.safetensors").replace(path)

    monkeypatch.setattr(lora_file, "_check_values", replaced)
    found, record = load_lora(path)
    assert record["concept"] == "star"
    assert all(torch.equal(found[key], state[key]) for key in found)


def test_a_file_without_alphas_or_a_record_loads(tmp_path, state):
    """As other trainers write it, and this pack from its next version on."""
    plain = {f"transformer.{k}": v for k, v in state.items() if not k.endswith(".alpha")}
    save_file(plain, tmp_path / "a.safetensors")
    found, record = load_lora(tmp_path / "a.safetensors")
    assert record == {} and sorted(found) == sorted(k for k in state if not k.endswith(".alpha"))


def test_half_a_pair_is_named(tmp_path, state):
    state.pop(f"{LAYERS[1]}.lora_B.weight")
    with pytest.raises(ValueError, match=rf"shapes \[\(2, 6\), None\] for {LAYERS[1]}"):
        save_lora(tmp_path / "a.safetensors", state, {})
    assert not list(tmp_path.iterdir())


FIRST = {part: f"{LAYERS[0]}.{part}" for part in ("lora_A.weight", "lora_B.weight", "alpha")}
DOWN, UP, ALPHA = FIRST.values()
FINITE = r"with a weight of .* expected numbers that are finite and below 1e\+09.*train or download"
SHAPES = r"with A, B of shapes \[\(.*\), \(.*\)\] for .*, none of them 0"
NUMBERS = r"that are no real numbers, or more than one alpha, expected floats and one alpha"
WRONG = {
    **{
        str(value): ({DOWN: torch.tensor([[0.0] * 6, [0.0] * 5 + [value]])}, FINITE)
        for value in (float("nan"), float("inf"), -float("inf"), 3e38)
    },
    "alpha inf": ({ALPHA: torch.tensor(float("inf"))}, FINITE),
    "alpha NaN": ({ALPHA: torch.tensor(float("nan"))}, FINITE),
    "float64 past float32": ({UP: torch.full((4, 2), 1e300, dtype=torch.float64)}, FINITE),
    "alpha complex": ({ALPHA: torch.tensor(1j)}, NUMBERS),
    "alpha of bools": ({ALPHA: torch.tensor(True)}, NUMBERS),
    "many dimensions": ({UP: torch.zeros([1] * 60)}, r"with A, B of shapes \[.*1\.\.\. for"),
    "alpha of three": ({ALPHA: torch.ones(3)}, NUMBERS),
    "alpha of none": ({ALPHA: torch.ones(0)}, NUMBERS),
    "complex": ({UP: torch.zeros(4, 2, dtype=torch.complex64)}, NUMBERS),
    "whole numbers": ({DOWN: torch.zeros(2, 6, dtype=torch.int32)}, NUMBERS),
    "rank 0": ({DOWN: torch.zeros(0, 6), UP: torch.zeros(4, 0)}, SHAPES),
    "nothing in": ({DOWN: torch.zeros(2, 0)}, SHAPES),
    "transposed": ({DOWN: torch.zeros(6, 2)}, SHAPES),
    "three dimensions": ({UP: torch.zeros(4, 2, 1)}, SHAPES),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_no_model_can_take_is_named_by_layer(tmp_path, state, case):
    changes, says = WRONG[case]
    broken = {f"transformer.{key}": value for key, value in (state | changes).items()}
    save_file(broken, tmp_path / "a.safetensors")
    for read in (
        lambda: load_lora(tmp_path / "a.safetensors"),
        lambda: lora_state("a.safetensors", broken),
        lambda: save_lora(tmp_path / "b.safetensors", state | changes, {}),
    ):
        with pytest.raises(ValueError, match=rf"Got [ab]\.safetensors .*{says}") as error:
            read()
        assert LAYERS[0] in str(error.value) and len(str(error.value)) < 600


def test_four_bits_are_no_lora_s(tmp_path, state):
    """torch can't compute with them."""
    whole = save_lora(tmp_path / "a.safetensors", state, {}).read_bytes()
    packed = whole.replace(
        b'{"data_offsets":[0,48],"dtype":"F32","shape":[2,6]}',
        b'{"data_offsets":[0,48],"dtype":"F4", "shape":[2,48]}',
    )
    path = tmp_path / "b.safetensors"
    size = int.from_bytes(whole[:8], "little") + len(packed) - len(whole)
    path.write_bytes(size.to_bytes(8, "little") + packed[8:])
    with pytest.raises(ValueError, match=NUMBERS):
        load_lora(path)


def test_a_missing_file_is_an_ordinary_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        load_lora(tmp_path / "none.safetensors")
