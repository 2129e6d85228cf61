"""Tiny random nets of every family, and the text that each of them takes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import comfy.model_management
import comfy.supported_models
import torch
from eraseanything_pack.erase_engine.interfaces import AttentionCapture, Conditioning, TokenSet
from eraseanything_pack.erase_engine.training.encoded_prompts import EncodedPrompts
from random_nets import loss_of, random_patcher
from tiny_flux import CONFIG, NEWER_HOST

TEXT, POOLED = 20, 12  # widths
TOKENS = torch.tensor([[1, 3], [2, -1]])  # that are watched
SD3_WIDTH = 128  # 64 for each block
TEXT_WIDTHS = ("context_in_dim", "joint_attention_dim", "cap_feat_dim", "cond_seq_dim")
SIZE = (32, 48)  # of a picture: 2 x 3 image tokens
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
    "context_embedder_config": {},  # by the text's width
}
CHROMA: dict[str, Any] = {
    "image_model": "chroma",
    **{key: CONFIG[key] for key in CONFIG if key not in ("vec_in_dim", "guidance_embed")},
    "in_channels": 64,
    "out_channels": 64,
    "in_dim": 64,
    "out_dim": CONFIG["hidden_size"],
    "hidden_dim": 24,
    "n_layers": 2,
    **({"vec_in_dim": None, **NEWER_HOST} if NEWER_HOST else {}),
}
FLUX2: dict[str, Any] = {
    **FLUX,
    "image_model": "flux2",
    "in_channels": 128,
    "out_channels": 128,
    "patch_size": 1,
    "vec_in_dim": None,
    "mlp_ratio": 3.0,
    "axes_dim": [4, 4, 4, 4],
    "theta": 2000,
    "qkv_bias": False,
    "global_modulation": True,
    "mlp_silu_act": True,
    "ops_bias": False,
    "default_ref_method": "index",
    "ref_index_scale": 10.0,
    **({"txt_ids_dims": [3]} if NEWER_HOST else {}),
}
QWEN: dict[str, Any] = {
    "image_model": "qwen_image",
    "patch_size": 2,
    "in_channels": 64,
    "out_channels": 16,
    "num_layers": 2,
    "attention_head_dim": 16,
    "num_attention_heads": 2,
    "joint_attention_dim": TEXT,
    "axes_dims_rope": (4, 6, 6),
}
AURAFLOW: dict[str, Any] = {
    "in_channels": 4,
    "out_channels": 4,
    "dim": 32,
    "n_layers": 4,
    "n_double_layers": 2,
    "n_heads": 2,
    "global_conddim": 24,
    "cond_seq_dim": TEXT,
    "max_seq": 64,
}
LUMINA: dict[str, Any] = {
    "image_model": "lumina2",
    "patch_size": 2,
    "in_channels": 16,
    "dim": 32,
    "cap_feat_dim": TEXT,
    "n_layers": 2,
    "n_refiner_layers": 2,
    "qk_norm": True,
    "n_heads": 2,
    "n_kv_heads": 1,
    "axes_dims": [4, 6, 6],
    "axes_lens": [300, 512, 512],
    "rope_theta": 10000.0,
    "ffn_dim_multiplier": 4.0,
    "multiple_of": 8,
}
Z_IMAGE: dict[str, Any] = {
    **LUMINA,
    "dim": 256,
    "axes_dims": [32, 48, 48],
    "n_kv_heads": 2,
    "rope_theta": 256.0,
    "z_image_modulation": True,
    "time_scale": 1000.0,
    "pad_tokens_multiple": 8,
    "ffn_dim_multiplier": 8 / 3,
}

# Guards that gradients need. Hosts that know training have RoPE without a gradient before, and
# older ones weights that their kernels keep.
LINEARS = frozenset({"frozen_linear", "outside_inference_mode"})
NORMED = LINEARS | {"norms"}
IN_PLACE = NORMED | {"copying_layer_norm", "own_copy"}  # blocks that add to what they were given
TRAINS = hasattr(comfy.model_management, "in_training")
ROPE = frozenset({"declared_training"} if TRAINS else ())
WEIGHTS = frozenset(() if TRAINS else {"frozen"})


@dataclass(frozen=True)
class Net:
    """One net: how the host builds it, and what of it the tests have to know."""

    model: str  # of comfy.supported_models
    sizes: Mapping[str, Any]
    blocks: int  # whose attention can be captured
    joint: int  # of these, with a stream of text of their own
    guards: frozenset[str]  # that its gradients need
    channels: int = 16
    pixels: int = 8  # of a latent
    text_length: int = 5
    pooled: bool = True
    cfg: bool = True  # guided by samplers
    framed: bool = False  # its latents have a frame
    padding: int = 0  # tokens that it puts before its text
    multiple: int = 1  # to which it pads its text at the end
    size: tuple[int, int] = SIZE  # of its pictures

    def build(
        self,
        dtype: torch.dtype = torch.float32,
        compute: torch.dtype | None = None,
        *,
        inference: bool = True,
        text: int = TEXT,
        pooled: int = POOLED,
    ) -> Any:
        """A ModelPatcher with random weights; `inference` makes it as a node would."""
        sizes = {key: text if key in TEXT_WIDTHS else size for key, size in self.sizes.items()}
        if "context_embedder_config" in sizes:
            linear = {"in_features": text, "out_features": SD3_WIDTH}
            config = {"target": "torch.nn.Linear", "params": linear}
            sizes |= {"context_embedder_config": config, "adm_in_channels": pooled}
        config = getattr(comfy.supported_models, self.model)(sizes)
        return random_patcher(config, dtype, compute, inference=inference)

    def loss(
        self, backend: Any, dtype: torch.dtype = torch.float32, text: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Of a pass, its velocity and the attention of its joint blocks."""
        x, t, cond = self.inputs(dtype)
        cond = cond if text is None else Conditioning.stacked(text, cond.pooled)
        capture = AttentionCapture(TOKENS, tuple(range(self.joint)))
        velocity = backend.velocity(x, t, cond, capture=capture)
        return loss_of(velocity, capture.mass)

    def inputs(self, dtype: torch.dtype = torch.float32, seed: int = 1) -> Any:
        """x_t (2, C, h, w), t (2,) and the text of two prompts."""
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        pooled = draw(2, POOLED) if self.pooled else None
        cond = Conditioning.stacked(draw(2, self.text_length, TEXT), pooled)
        latent = (side // self.pixels for side in self.size)
        return draw(2, self.channels, *latent), torch.tensor([0.8, 0.35]), cond


FLUX2_NET = Net(
    "Flux2",
    FLUX2,
    blocks=4,
    joint=2,
    guards=IN_PLACE | ROPE,
    channels=128,
    pixels=16,
    pooled=False,
    cfg=False,
    padding=512 - 5,
)
NETS = {
    "flux": Net("Flux", FLUX, blocks=4, joint=2, guards=IN_PLACE | ROPE, cfg=False),
    "sd3": Net("SD3", SD3, blocks=2, joint=2, guards=LINEARS | WEIGHTS),
    "sd3.5-large": Net(
        "SD3", {**SD3, "qk_norm": "rms"}, blocks=2, joint=2, guards=NORMED | WEIGHTS
    ),
    "sd3.5-medium": Net(
        "SD3",
        {**SD3, "qk_norm": "rms", "x_block_self_attn_layers": [0, 1]},
        blocks=2,
        joint=2,
        guards=NORMED | WEIGHTS,
    ),
    "chroma": Net("Chroma", CHROMA, blocks=4, joint=2, guards=IN_PLACE | ROPE, pooled=False),
    "flux2-dev": FLUX2_NET,
    "flux2-klein": replace(FLUX2_NET, sizes={**FLUX2, "guidance_embed": False}, cfg=True),
    "qwen-image": Net(
        "QwenImage", QWEN, blocks=2, joint=2, guards=NORMED | ROPE, pooled=False, framed=True
    ),
    "auraflow": Net(
        "AuraFlow",
        AURAFLOW,
        blocks=4,
        joint=2,
        guards=LINEARS | WEIGHTS,
        channels=4,
        pooled=False,
        padding=8,
    ),
    "lumina2": Net("Lumina2", LUMINA, blocks=2, joint=2, guards=NORMED | ROPE, pooled=False),
    "z-image": Net(
        "ZImage",
        Z_IMAGE,
        blocks=2,
        joint=2,
        guards=NORMED | ROPE | WEIGHTS,
        pooled=False,
        multiple=8,
    ),
}


def distance(found: torch.Tensor, expected: torch.Tensor) -> float:
    """Of two tensors, as a share of the second's size."""
    return float(((found - expected).norm() / expected.norm()).detach())


def plan_of(net: Net) -> EncodedPrompts:
    def prompts(seed: int) -> Conditioning:
        return net.inputs(seed=seed)[2]

    tokens = TokenSet(TOKENS, torch.tensor([[0, 2], [0, 1]]))
    none = prompts(4).prompts[0]
    return EncodedPrompts(prompts(1), prompts(2), tokens, prompts(3), none, None)
