"""Merged LoRAs: a sum acts as all of them at once."""

from __future__ import annotations

import pytest
import torch
from torch import Generator, Tensor

from erase_engine.lora.adapters import LoraSet
from erase_engine.lora.merge import layers_of, weighted_sum

OUT, IN, LAYER = 6, 12, "transformer_blocks.0.attn.add_q_proj"


def adapter(seed: int, rank: int = 2, alpha: float = 4.0, layer: str = LAYER) -> dict[str, Tensor]:
    generator = Generator().manual_seed(seed)
    return {
        f"{layer}.lora_A.weight": torch.randn(rank, IN, generator=generator),
        f"{layer}.lora_B.weight": torch.randn(OUT, rank, generator=generator),
        f"{layer}.alpha": torch.tensor(alpha),
    }


def update(state: dict[str, Tensor], layer: str = LAYER) -> Tensor:
    """dW, (out, in)"""
    down, up = state[f"{layer}.lora_A.weight"], state[f"{layer}.lora_B.weight"]
    return state[f"{layer}.alpha"] / len(down) * up @ down


def test_a_sum_is_the_sum_of_the_updates() -> None:
    one, other = adapter(0), adapter(1, rank=3, alpha=3.0)
    merged = weighted_sum([one, other], [1.0, -0.5])
    torch.testing.assert_close(update(merged), update(one) - 0.5 * update(other))
    assert len(merged[f"{LAYER}.lora_A.weight"]) == 5


def test_a_layer_of_one_alone_stays_its_own() -> None:
    elsewhere = LAYER.replace("0", "1")
    merged = weighted_sum([adapter(0), adapter(1, layer=elsewhere)], [1.0, 1.0])
    assert layers_of([merged]) == [LAYER, elsewhere]
    torch.testing.assert_close(update(merged, elsewhere), update(adapter(1)))


@pytest.mark.parametrize("strengths", [[1.0, 1.0], [0.5, -1.0]])
def test_a_merged_lora_is_one_that_models_take(small_flow, strengths) -> None:
    names = small_flow.target_names("text_qk")
    slices = small_flow.linear_slices(names)
    parts = []
    for seed in (0, 1):
        lora = LoraSet(slices, rank=2, generator=Generator().manual_seed(seed))
        with torch.no_grad():
            for parameter in lora.parameters():
                parameter.normal_(generator=Generator().manual_seed(seed))
        parts.append(lora.state_dict())
    merged = LoraSet.from_state(slices, weighted_sum(parts, strengths))
    assert merged.rank == 4
    x = torch.randn(2, 6, 8, generator=Generator().manual_seed(9))
    module = slices[names[0]].module
    base = module(x)
    alone = []
    for part in parts:
        with LoraSet.from_state(slices, part).attach(slices):
            alone.append(module(x) - base)
    with merged.attach(slices):
        both = module(x) - base
    torch.testing.assert_close(both, strengths[0] * alone[0] + strengths[1] * alone[1])
