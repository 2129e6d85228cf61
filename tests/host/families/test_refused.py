"""Flow models of no family here are refused by name, before any work."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import comfy.model_base
import comfy.supported_models
import graph
import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import supported_family
from eraseanything_pack.nodes.training import node_host
from families.nets import NETS
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
# Variants of known families: the net, what is other in it, and what is said.
VARIANTS = {
    "fill": ("flux", {"in_channels": 96}, "96 channels"),
    "canny": ("flux", {"in_channels": 32}, "32 channels"),
    "SD3 inpaint": ("sd3.5-medium", {"in_channels": 33}, "33 channels in and 16 out"),
    "FLUX.2 inpaint": ("flux2-dev", {"in_channels": 132}, "132 channels in and 128 out"),
}
# Other models of the host's.
CLASSES = (
    *("ChromaRadiance", "WAN21", "LTXV", "HunyuanVideo", "SDXL", "Omnigen2", "CosmosPredict2"),
    *("PixArt", "HunyuanDiT"),
)
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


@pytest.mark.parametrize("name", VARIANTS)
def test_a_variant_is_named_by_what_is_other(name: str) -> None:
    """Inpainting and control have more channels: their pictures would be no pictures."""
    kind, changes, says = VARIANTS[name]
    model = replace(NETS[kind], sizes={**NETS[kind].sizes, **changes}).build()
    with pytest.raises(
        ValueError, match=rf"Got an? .*{says}.*, expected text-to-image .* Load"
    ) as error:
        graph.erase(model)
    assert len(str(error.value)) < 600


@pytest.mark.parametrize("name", CLASSES)
def test_a_model_of_another_family_is_named(name: str) -> None:
    """Pixel-space, video and U-Net models, by the host's name of their class."""
    kind = getattr(comfy.model_base, name)
    base = kind.__new__(kind)
    torch.nn.Module.__init__(base)
    base.diffusion_model = torch.nn.Linear(1, 1)
    with pytest.raises(ValueError, match=rf"Got .*{name}.*, expected a Flux, SD3, .* model\. Load"):
        supported_family(SimpleNamespace(model=base, model_options={}))
