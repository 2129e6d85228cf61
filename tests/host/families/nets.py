"""Tiny random nets of every family, and the text that each of them takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import comfy.supported_models
import torch
from eraseanything_pack.erase_engine.interfaces import Conditioning
from random_nets import random_patcher
from tiny_flux import CONFIG, NEWER_HOST

TEXT, POOLED = 20, 12  # widths
SIZE = (4, 6)  # of a latent
FLUX: dict[str, Any] = {"image_model": "flux", **CONFIG, "guidance_embed": True, **NEWER_HOST}
SD3: dict[str, Any] = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "depth": 2,
    "num_blocks": 2,  # the host's map to diffusers takes them for one number
    "input_size": None,
    "adm_in_channels": POOLED,
    "num_patches": 64,
    "pos_embed_max_size": 8,
    "pos_embed_scaling_factor": None,
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": TEXT, "out_features": 128},
    },
}


@dataclass(frozen=True)
class Net:
    """One net: how the host builds it, and what of it the tests have to know."""

    model: str  # of comfy.supported_models
    sizes: Mapping[str, Any]
    blocks: int  # whose attention can be captured
    joint: int  # of these, with a stream of text of their own
    channels: int = 16
    text_length: int = 5
    pooled: bool = True

    def build(self, dtype: torch.dtype = torch.float32, *, inference: bool = True) -> Any:
        """A ModelPatcher with random weights; `inference` makes it as a node would."""
        config = getattr(comfy.supported_models, self.model)(dict(self.sizes))
        return random_patcher(config, dtype, inference=inference)

    def inputs(self, dtype: torch.dtype = torch.float32, seed: int = 1) -> Any:
        """x_t (2, C, 4, 6), t (2,) and the text of two prompts."""
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        pooled = draw(2, POOLED) if self.pooled else None
        cond = Conditioning.stacked(draw(2, self.text_length, TEXT), pooled)
        return draw(2, self.channels, *SIZE), torch.tensor([0.8, 0.35]), cond


NETS = {
    "flux": Net("Flux", FLUX, blocks=4, joint=2),
    "sd3": Net("SD3", SD3, blocks=2, joint=2),
    "sd3.5-large": Net("SD3", {**SD3, "qk_norm": "rms"}, blocks=2, joint=2),
    "sd3.5-medium": Net(
        "SD3",
        {**SD3, "qk_norm": "rms", "x_block_self_attn_layers": [0, 1]},
        blocks=2,
        joint=2,
    ),
}
