"""Preflight's counts of what a block keeps are those of what autograd saves."""

from __future__ import annotations

import pytest
import torch
from eraseanything_pack.benchmarks.capture import kept_bytes
from eraseanything_pack.erase_engine.families.flux import FLUX
from eraseanything_pack.erase_engine.interfaces import AttentionCapture, Conditioning
from eraseanything_pack.erase_engine.memory import TrainingSize
from eraseanything_pack.nodes.host.session import training_session
from tiny_flux import CONFIG, build

HIDDEN, TOKENS = 384, 64  # as many of text as of the image
SIZES = {**CONFIG, "hidden_size": HIDDEN, "num_heads": 3, "axes_dim": [16, 56, 56]}
DTYPES = {torch.float32: 4, torch.bfloat16: 2}


def saved_bytes(depth: int, singles: int, dtype: torch.dtype, target: str) -> int:
    """Of all storages that one watched forward pass keeps."""
    model = build(dtype, sizes={**SIZES, "depth": depth, "depth_single_blocks": singles})
    generator = torch.Generator().manual_seed(0)
    cond = Conditioning.stacked(torch.randn(1, TOKENS, 20), torch.randn(1, 12))
    request = AttentionCapture(torch.tensor([[1]]), tuple(range(depth)))
    with training_session(model, checkpointing=False) as backend:
        slices = backend.linear_slices(FLUX.target_names(target, depth))
        lora = backend.adapters(slices, rank=1, generator=generator)
        x_t, t = torch.randn(1, 16, 16, 16), torch.tensor([0.5])
        with lora.attach(slices):
            return kept_bytes(lambda: backend.velocity(x_t, t, cond, capture=request))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("target", FLUX.targets)
def test_a_block_keeps_what_preflight_counts(target: str, dtype: torch.dtype) -> None:
    """What one block more keeps; the first one is another case, its image has no gradient."""
    setting = TrainingSize(
        depth=2,
        singles=2,
        image_tokens=TOKENS,
        text_tokens=TOKENS,
        batch=1,
        weight_bytes=DTYPES[dtype],
        compute_bytes=DTYPES[dtype],
        hidden=HIDDEN,
        targets=target,
    )
    base = saved_bytes(2, 2, dtype, target)
    assert saved_bytes(3, 2, dtype, target) - base == pytest.approx(setting.double_keeps, rel=0.1)
    assert saved_bytes(2, 3, dtype, target) - base == pytest.approx(setting.single_keeps, rel=0.1)
