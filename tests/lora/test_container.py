"""What is no safetensors file, or larger than any LoRA's, is named before it is read."""

from __future__ import annotations

import json
import os

import pytest
from lora_states import LAYERS

from erase_engine.lora import container
from erase_engine.lora.file import load_lora, save_lora


@pytest.mark.parametrize("dtype", ["\u202eF32", "x" * 9000], ids=["turned", "long"])
def test_what_the_library_says_is_told_in_few_seen_letters(tmp_path, state, dtype):
    path = save_lora(tmp_path / "a\u202e.safetensors", state, {})
    whole = path.read_bytes()
    size = 8 + int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8:size])
    header[f"transformer.{LAYERS[0]}.lora_A.weight"]["dtype"] = dtype
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + whole[size:])
    with pytest.raises(ValueError, match=r"Got a .safetensors, which .*unknown variant") as error:
        load_lora(path)
    assert "\u202e" not in str(error.value) and len(str(error.value)) < 400


def test_24_gigabytes_are_no_lora_s(tmp_path):
    """A file that is all hole, of two tensors that would fill the memory."""
    layer, rows = f"transformer.{LAYERS[0]}", 3 * 10**9
    spans = {"lora_A": ([1, rows], 0), "lora_B": ([rows, 1], 4 * rows)}
    header = {
        f"{layer}.{part}.weight": {
            "dtype": "F32",
            "shape": shape,
            "data_offsets": [begin, begin + 4 * rows],
        }
        for part, (shape, begin) in spans.items()
    }
    text, path = json.dumps(header).encode(), tmp_path / "a.safetensors"
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + 8 * rows)
    with pytest.raises(ValueError, match=r"Got a.safetensors of 24,000,000,\d+ bytes, expected at"):
        load_lora(path)


def test_a_file_that_is_larger_than_the_memory_is_named(tmp_path, state, monkeypatch):
    def open_it(*args):
        raise RuntimeError("unable to mmap 51539607858 bytes: Cannot allocate memory (12)")

    monkeypatch.setattr(container, "safe_open", open_it)
    path = save_lora(tmp_path / "a.safetensors", state, {})
    with pytest.raises(
        ValueError, match=r"Got a.safetensors, which this machine can't read \(unab"
    ):
        load_lora(path)


def test_a_header_that_no_lora_has_is_not_read(tmp_path):
    path, size = tmp_path / "a.safetensors", 95 * 2**20
    path.write_bytes(size.to_bytes(8, "little"))
    os.truncate(path, 9 + size)
    with pytest.raises(ValueError, match=r"Got a.safetensors with a header of 99,614,720 bytes"):
        load_lora(path)


def test_a_name_that_stands_twice_in_the_header_is_told(tmp_path, state):
    """The library takes the last one, whatever it says."""
    whole = save_lora(tmp_path / "a.safetensors", state, {}).read_bytes()
    name = f'"transformer.{LAYERS[0]}.lora_A.weight":'.encode()
    size = int.from_bytes(whole[:8], "little")
    header = whole[8 : 8 + size].replace(
        name, name + b'{"dtype":"F32","shape":[1],"data_offsets":[0,4]},' + name
    )
    broken = tmp_path / "b.safetensors"
    broken.write_bytes(len(header).to_bytes(8, "little") + header + whole[8 + size :])
    with pytest.raises(
        ValueError, match=rf"Got b.safetensors with .*{LAYERS[0]}.*stands in it twice"
    ):
        load_lora(broken)
