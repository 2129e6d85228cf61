"""Generated LoRA files: each is read and works, or is refused in words that a person can act on."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random
from typing import Any

import torch
from generated import holds
from generated_files import odd_file
from lora_states import some_state
from safetensors.torch import save_file
from word_encoder import plan

from erase_engine.lora.file import folded, lora_state, prefixed, read_lora, read_metadata, save_lora
from erase_engine.lora.merge import check_same_sizes, weighted_sum
from erase_engine.lora.metadata import concept_of, merged_metadata, plans_in


def test_lora_files(tmp_path: Path) -> None:
    """Ours, and another trainer's with alphas and half the bits."""
    state, path = some_state(), tmp_path / "a.safetensors"
    record = {"concept": "cat", "base_model": "Flux, small", "plan": plan("cat", pairs=2).to_json()}
    whole = [save_lora(path, state, record).read_bytes()]
    save_file(prefixed({key: each.half() for key, each in state.items()}), path)
    whole.append(path.read_bytes())

    def give(data: bytes) -> None:
        path.write_bytes(data)
        try:
            found = read_lora(path)
            assert read_metadata(path) == found.record
            assert_works(found.state, found.record)
            assert_once(data)
        finally:
            assert [each.name for each in tmp_path.iterdir()] == [path.name]

    def make(rng: Random) -> bytes:
        return odd_file(rng.choice(whole), rng)

    holds("LoRA file", 600, make, give)


def assert_works(state: dict[str, torch.Tensor], record: dict[str, str]) -> None:
    check_same_sizes({"one": state, "other": state})
    merged = weighted_sum([state, state], [1.0, 0.5])
    assert all(bool(each.isfinite().all()) for each in merged.values())
    folded(merged)
    lora_state("the LoRA", prefixed(state))
    assert len(concept_of(record)) < 100
    merged_metadata([record, record], [1.0, 0.5], method="sum", host={})
    plans_in(record)


def assert_once(data: bytes) -> None:
    """No name stands twice in a header that was taken."""

    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        assert len(dict(pairs)) == len(pairs), "a name twice"
        return dict(pairs)

    json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")], object_pairs_hook=once)
