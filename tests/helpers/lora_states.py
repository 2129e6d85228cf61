"""A LoRA of four layers, as `LoraSet.state_dict` gives it."""

from __future__ import annotations

import torch
from torch import Tensor

LAYERS = [f"transformer_blocks.{i}.attn.{p}" for i in (0, 1) for p in ("add_q_proj", "add_k_proj")]


def some_state() -> dict[str, Tensor]:
    torch.manual_seed(0)
    pairs = {}
    for layer in LAYERS:
        pairs[f"{layer}.lora_A.weight"] = torch.randn(2, 6)
        pairs[f"{layer}.lora_B.weight"] = torch.randn(4, 2)
        pairs[f"{layer}.alpha"] = torch.tensor(2.0)
    return pairs
