"""Flow models of no family here are refused by name, before any work."""

from __future__ import annotations

from typing import Any

import comfy.supported_models
import graph
import pytest
import torch
from eraseanything_pack.nodes.training import node_host
from random_nets import random_patcher

HIDREAM = {
    "image_model": "hidream",
    "patch_size": 2,
    "in_channels": 16,
    "out_channels": 16,
    "num_layers": 1,
    "num_single_layers": 1,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "caption_channels": [20, 20],
    "text_emb_dim": 12,
    "axes_dims_rope": (4, 6, 6),
    "llama_layers": [0, 1],
    "max_resolution": (128, 128),
}
KREA_2 = {
    "image_model": "krea2",
    "features": 32,
    "tdim": 16,
    "txtdim": 10,
    "heads": 2,
    "kvheads": 1,
    "multiplier": 2,
    "layers": 1,
    "txtlayers": 2,
    "txtheads": 2,
    "txtkvheads": 2,
}
OTHERS = {"HiDream": HIDREAM, "Krea2": KREA_2}
THERE = [name for name in OTHERS if hasattr(comfy.supported_models, name)]  # hosts have one or both


@pytest.mark.parametrize("name", THERE)
@pytest.mark.parametrize("run", [graph.erase, graph.look])
def test_it_is_named_with_what_is_supported(
    name: str, run: Any, loras: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = getattr(comfy.supported_models, name)(OTHERS[name])
    model = random_patcher(config, torch.float32, inference=True)
    monkeypatch.setattr(node_host, "training_session", lambda *args, **kwargs: pytest.fail("work"))
    says = rf"Got {name}, expected a Flux, SD3, .* model\. Load FLUX\.1"
    with pytest.raises(ValueError, match=says) as error:
        run(model)
    assert len(str(error.value)) < 600
