"""The tiny Flux of `tiny_flux` in diffusers' layout: the same weights, the same size."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import comfy.utils
import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from eraseanything_pack.erase_engine.backends.diffusers.model import DiffusersFlowModel
from tiny_flux import CONFIG
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

# A training that takes a second.
SMALL = """
pairs: 4
steps: 2
batch: 2
keep_per_step: 2
trajectories: 2
trajectory_steps: 2
width: 64
height: 64
learning_rate: 0.001  # by which rounding is made large
solver: alternate
lora: {rank: 2, targets: text_pooled}
"""
# What FLUX.1 [dev] and [schnell] bring, where it differs from the scheduler's defaults.
SCHEDULERS = {
    True: {"shift": 3.0, "use_dynamic_shifting": True},
    False: {"shift": 1.0, "use_dynamic_shifting": False},
}
# Text encoders as wide as the tiny Flux expects.
_SMALL = {"num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 24}
CLIP = {**_SMALL, "hidden_size": 12, "projection_dim": 12, "eos_token_id": 49407}
T5 = {
    "d_model": 20,
    "d_kv": 8,
    "d_ff": 24,
    "num_heads": 2,
    "num_layers": 1,
    "vocab_size": 32128,
    "feed_forward_proj": "gated-gelu",
}


def sizes_of(net: Any) -> dict[str, Any]:
    """The arguments of a FluxTransformer2DModel for a ComfyUI Flux."""
    params = net.params
    return {
        "in_channels": params.in_channels * params.patch_size**2,
        "num_layers": params.depth,
        "num_single_layers": params.depth_single_blocks,
        "attention_head_dim": params.hidden_size // params.num_heads,
        "num_attention_heads": params.num_heads,
        "joint_attention_dim": params.context_in_dim,
        "pooled_projection_dim": params.vec_in_dim,
        "guidance_embeds": params.guidance_embed,
        "axes_dims_rope": tuple(params.axes_dim),
    }


def convert(model: Any) -> FluxTransformer2DModel:
    """A ComfyUI MODEL's weights in a diffusers model, by ComfyUI's own table of names."""
    net = model.model.diffusion_model
    published = {key: weight.clone() for key, weight in net.state_dict().items()}
    table = comfy.utils.flux_to_diffusers({**CONFIG, **vars(net.params)})
    made = FluxTransformer2DModel(**sizes_of(net))
    wanted = made.state_dict()
    made.load_state_dict({name: weight_at(published, table[name]) for name in wanted})
    return made.eval()


def weight_at(published: Mapping[str, torch.Tensor], place: Any) -> torch.Tensor:
    """One weight: a whole one, some rows of one, or a changed one."""
    if isinstance(place, str):
        return published[place]
    key, rows, *change = place
    if change:
        return change[0](published[key])
    dim, start, length = rows
    return published[key].narrow(dim, start, length)


def scheduler(guidance_embed: bool = True) -> FlowMatchEulerDiscreteScheduler:
    return FlowMatchEulerDiscreteScheduler(**SCHEDULERS[guidance_embed])


def backend_of(model: Any, **options: Any) -> DiffusersFlowModel:
    """The backend on a ComfyUI MODEL's weights."""
    net = convert(model)
    return DiffusersFlowModel(net, scheduler(net.config.guidance_embeds), **options)


def snapshot_of(net: Any) -> dict[str, Any]:
    """Everything of a diffusers model that training could leave changed."""
    return {
        "weights": {name: weight.tolist() for name, weight in net.state_dict().items()},
        "identities": [id(weight) for weight in net.parameters()],
        "requires_grad": [weight.requires_grad for weight in net.parameters()],
        "grads": [weight.grad is None for weight in net.parameters()],
        "modules": {name: id(module) for name, module in net.named_modules()},
        "attributes": {name: sorted(vars(module)) for name, module in net.named_modules()},
        "processors": {name: id(one) for name, one in net.attn_processors.items()},
        "training": [module.training for module in net.modules()],
        "checkpointing": (net.gradient_checkpointing, net._gradient_checkpointing_func),
        "adapters": net._hf_peft_config_loaded,
        "hooks": sum(len(module._forward_hooks) for module in net.modules()),
        "modes": (torch.is_inference_mode_enabled(), torch.is_grad_enabled()),
    }


def save_pipeline(folder: Path, model: Any) -> Path:
    """A ComfyUI MODEL as a diffusers folder, with random text encoders and the real tokenizers."""
    net = convert(model)
    net.save_pretrained(folder / "transformer")
    scheduler(net.config.guidance_embeds).save_pretrained(folder / "scheduler")
    save_text_encoders(folder)
    return folder


def save_whole_pipeline(folder: Path, model: Any) -> Path:
    """As `save_pipeline`, with an autoencoder and the index: diffusers' own pipeline loads it."""
    save_pipeline(folder, model)
    save_vae(folder)
    parts = {
        "scheduler": ("diffusers", "FlowMatchEulerDiscreteScheduler"),
        "text_encoder": ("transformers", "CLIPTextModel"),
        "text_encoder_2": ("transformers", "T5EncoderModel"),
        "tokenizer": ("transformers", "CLIPTokenizer"),
        "tokenizer_2": ("transformers", "T5TokenizerFast"),
        "transformer": ("diffusers", "FluxTransformer2DModel"),
        "vae": ("diffusers", "AutoencoderKL"),
    }
    index = {"_class_name": "FluxPipeline", **parts}
    (folder / "model_index.json").write_text(json.dumps(index), encoding="utf-8")
    return folder


def save_vae(folder: Path) -> AutoencoderKL:
    """A random autoencoder that makes 8 x 8 pixels one latent pixel, in `folder`/vae."""
    with torch.random.fork_rng():
        torch.manual_seed(4)
        made = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(4,) * 4,
            norm_num_groups=1,
            latent_channels=16,
            scaling_factor=0.36,
            shift_factor=0.12,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
    made.save_pretrained(folder / "vae")
    return made.eval()


def save_text_encoders(folder: Path) -> None:
    """What FLUX.1's folders hold for text: CLIP-L and T5, here of a layer each."""
    texts = Path(comfy.__path__[0])
    CLIPTokenizer.from_pretrained(
        texts / "sd1_tokenizer", model_max_length=77, local_files_only=True
    ).save_pretrained(folder / "tokenizer")
    T5TokenizerFast.from_pretrained(
        texts / "text_encoders" / "t5_tokenizer", local_files_only=True
    ).save_pretrained(folder / "tokenizer_2")
    with torch.random.fork_rng():
        torch.manual_seed(3)
        CLIPTextModel(CLIPTextConfig(**CLIP)).save_pretrained(folder / "text_encoder")
        T5EncoderModel(T5Config(**T5)).save_pretrained(folder / "text_encoder_2")
