"""Tiny random nets of every family, and the text that each of them takes."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import comfy.ldm.flux.model
import comfy.model_patcher
import comfy.supported_models
import torch
from eraseanything_pack.erase_engine.interfaces import Conditioning
from eraseanything_pack.erase_engine.lora.adapters import LoraSet

TEXT, POOLED = 20, 12  # widths
NEW = hasattr(comfy.ldm.flux.model, "invert_slices")  # host: it asks Flux for more
SIZE = (4, 6)  # of a latent
FLUX: dict[str, Any] = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": POOLED,
    "context_in_dim": TEXT,
    "hidden_size": 32,
    "mlp_ratio": 4.0,
    "num_heads": 2,
    "depth": 2,
    "depth_single_blocks": 2,
    "axes_dim": [4, 6, 6],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
    **({"txt_ids_dims": []} if NEW else {}),
}
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
    extra: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def build(self, dtype: torch.dtype = torch.float32, *, inference: bool = True) -> Any:
        """A ModelPatcher with random weights; `inference` makes it as a node would."""
        with torch.inference_mode() if inference else nullcontext():
            config = getattr(comfy.supported_models, self.model)(dict(self.sizes))
            config.set_inference_dtype(dtype, None)
            base = config.get_model({}, "", device=torch.device("cpu"))
            base.diffusion_model.load_state_dict(_weights(base.diffusion_model))
        return comfy.model_patcher.ModelPatcher(base, torch.device("cpu"), torch.device("cpu"))

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


def _weights(net: Any) -> dict[str, torch.Tensor]:
    """Random weights that leave no layer without effect; scales of norms lie around 1."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, weight in net.state_dict().items():
        draw = torch.randn(weight.shape, generator=generator, dtype=torch.float64)
        scale = weight.ndim == 1 and ("norm" in name or ".ln_" in name) and "bias" not in name
        width = weight.shape[-1] if weight.ndim else 1
        state[name] = (1 + 0.2 * draw if scale else draw / width**0.5).to(weight.dtype)
    return state


def adapters(backend: Any, target: str, dtype: torch.dtype = torch.float32) -> LoraSet:
    """Adapters on a target set with B away from 0, so that A has a gradient."""
    generator = torch.Generator().manual_seed(2)
    slices = backend.linear_slices(backend.target_names(target))
    lora = LoraSet(slices, rank=3, alpha=6.0, generator=generator).to(dtype=dtype)
    for parameter in lora.parameters()[1::2]:
        parameter.data.normal_(std=0.3, generator=generator)
    return lora
