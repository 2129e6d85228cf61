"""A Flux of FLUX.1-dev's full width with few blocks and random weights, and one step on it.

What a block costs does not depend on what it has learned: memory and time of a training can be
measured without the 24 GB of a downloaded model.
"""

from __future__ import annotations

from typing import Any

import comfy.ldm.flux.model
import comfy.model_patcher
import comfy.supported_models
import torch
from eraseanything_pack.erase_engine.config import EraseConfig, LoraConfig, LossWeights
from eraseanything_pack.erase_engine.interfaces import Conditioning, LatentGrid, TokenSet
from eraseanything_pack.erase_engine.training.encoded_prompts import EncodedPrompts
from eraseanything_pack.erase_engine.training.teacher import Trajectories
from eraseanything_pack.erase_engine.training.trajectories import TrajectoryCache
from torch import Generator, Tensor

# As the host finds it in the published file, but for the number of blocks.
CONFIG: dict[str, Any] = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "hidden_size": 3072,
    "mlp_ratio": 4.0,
    "num_heads": 24,
    "axes_dim": [16, 56, 56],
    "theta": 10000,
    "qkv_bias": True,
    "guidance_embed": True,
}
DEPTH, SINGLES = 19, 38  # of the published model
# Weights' dtype, and the dtype they are cast to for each layer: as the host's loader options.
DTYPES: dict[str, tuple[torch.dtype, torch.dtype | None]] = {
    "float32": (torch.float32, None),
    "bfloat16": (torch.bfloat16, None),
    "float16": (torch.float16, None),
    "float8_e4m3fn": (torch.float8_e4m3fn, torch.bfloat16),
}
TILE = 1_000_003  # weights drawn; a prime, so that no two rows of a layer are alike
TOKENS = ((3, 4),)  # of the concept, in a prompt
PROMPT = 24  # text tokens that are words, the others are padding


def build(
    depth: int = 1,
    singles: int = 1,
    dtype: str = "bfloat16",
    *,
    device: str = "cpu",
    inference: bool = True,
) -> comfy.model_patcher.ModelPatcher:
    """A ModelPatcher on a full-width Flux; on "meta" it has no weights.

    With `inference` it is made as a node would make it: its weights are inference tensors.
    """
    config = {**CONFIG, "depth": depth, "depth_single_blocks": singles}
    if hasattr(comfy.ldm.flux.model, "invert_slices"):  # newer hosts
        config["txt_ids_dims"] = []
    with torch.inference_mode(inference):
        model_config = comfy.supported_models.Flux({"image_model": "flux", **config})
        model_config.set_inference_dtype(*DTYPES[dtype])
        base = model_config.get_model({}, "", device=torch.device(device))
        if device != "meta":
            fill(base.diffusion_model)
    return comfy.model_patcher.ModelPatcher(base, torch.device("cpu"), torch.device("cpu"))


def fill(net: torch.nn.Module) -> None:
    """Normal weights of variance 1 / fan-in, norm scales around 1, tiled from one small draw."""
    draw = torch.randn(TILE, generator=Generator().manual_seed(0))
    for name, weight in net.state_dict().items():
        scaled = 1 + 0.2 * draw if "_norm" in name else draw / weight.shape[-1] ** 0.5
        tile = scaled.to(weight.dtype)
        for part in weight.view(-1).split(TILE):
            part.copy_(tile[: len(part)])


def config_of(pixels: int, **fields: Any) -> EraseConfig:
    """A step of training with one sample in each half, on one state, and attention watched."""
    way: dict[str, Any] = {"solver": "alternate", "lora": LoraConfig(targets="text_pooled")}
    way["weights"] = LossWeights(attention=0.2, keep=6.0)
    one = {"steps": 1, "batch": 1, "keep_per_step": 1, "trajectories": 1, "trajectory_steps": 1}
    size = {"width": pixels, "height": pixels}
    return EraseConfig.from_recipe("fast", **{**way, **one, **size, **fields})


def encoded_plan(
    text_length: int = 256,
    *,
    width: int = CONFIG["context_in_dim"],
    pooled: int | None = CONFIG["vec_in_dim"],
) -> EncodedPrompts:
    """One pair and one keep prompt, all random; without `pooled` they have no such vector."""
    generator = Generator().manual_seed(1)

    def prompt() -> Conditioning:
        text = torch.randn(1, text_length, width, generator=generator)
        vector = torch.randn(1, pooled, generator=generator) if pooled else None
        return Conditioning.stacked(text, vector)

    words = min(PROMPT, text_length)
    others = torch.tensor([[index for index in range(words) if index not in TOKENS[0]]])
    tokens = TokenSet(torch.tensor(TOKENS), others)
    return EncodedPrompts(prompt(), prompt(), tokens, prompt(), prompt().prompts[0], None)


def random_trajectories(config: EraseConfig, latents: LatentGrid, watched: int) -> Trajectories:
    """What sampling one path of one step would give, drawn at random: sampling is not measured.

    `watched`: how many text tokens' attention is read.
    """
    generator = Generator().manual_seed(2)

    def cache(prompts: int) -> TrajectoryCache:
        def draw(*shape: int) -> Tensor:
            size = latents.shape(config.height, config.width)
            return torch.randn(*shape, *size, generator=generator)

        mass, times, rows = torch.full((1, 1, watched), 0.01), torch.ones(1), torch.zeros(1)
        return TrajectoryCache(draw(1, 1), draw(1, 1, prompts), mass, times, rows.long())

    return Trajectories(cache(2), cache(1))
