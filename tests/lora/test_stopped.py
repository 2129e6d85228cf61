"""What a stopped training left behind goes once it has finished; nothing else does."""

from __future__ import annotations

from pathlib import Path

import torch

from erase_engine.lora.file import save_lora
from erase_engine.lora.stopped import remove_stopped, stopped_name

LAYER = "transformer_blocks.0.attn.to_q"
STATE = {f"{LAYER}.lora_A.weight": torch.ones(1, 2), f"{LAYER}.lora_B.weight": torch.ones(2, 1)}
RECORD = {"plan": "{}", "config": "{}", "base_model": "tiny"}


def saved(path: Path, **other: str) -> Path:
    return save_lora(path, STATE, {**RECORD, **other})


def test_only_what_the_same_training_left_is_removed(tmp_path: Path) -> None:
    names = [stopped_name("star", step) for step in (20, 40)]
    assert names == ["star_step20", "star_step40"]
    gone = [saved(tmp_path / f"{name}_00001.safetensors", figures=name) for name in names]
    stays = [saved(tmp_path / f"star_step60_0000{n}.safetensors", **{key: "another"})
        for n, key in enumerate(RECORD)]  # fmt: skip
    stays += [saved(tmp_path / f"{name}.safetensors") for name in ("my_star", "star_00001", "st")]
    (broken := tmp_path / "star_step9.safetensors").write_bytes(b"no LoRA")
    remove_stopped(tmp_path / "star", saved(tmp_path / "star_00002.safetensors"))
    assert not any(path.exists() for path in gone)
    assert all(path.exists() for path in (*stays, broken))


def test_brackets_in_a_name_are_letters(tmp_path: Path) -> None:
    stays, gone = (saved(tmp_path / f"{name}_step1.safetensors") for name in ("a", "[ab]"))
    remove_stopped(tmp_path / "[ab]", saved(tmp_path / "[ab].safetensors"))
    assert stays.exists() and not gone.exists()
