"""The tiny models as ComfyUI objects: MODEL, CLIP and VAE that every stock node takes.

The architectures are ComfyUI's own (Flux, T5 encoder, CLIP-L text model) with small sizes. Only the
autoencoder is ours: its encoder is one fixed linear map of 8 x 8 patches to 16 channels, its
decoder a small convolutional network.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

WEIGHTS = Path(__file__).parent / "weights"
TEXT_TOKENS = 24  # T5 padding; FLUX pads to 256, four times the 64 image tokens of a tiny picture

FLUX_CONFIG: dict[str, Any] = {
    "image_model": "flux",
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "vec_in_dim": 32,
    "context_in_dim": 64,
    "hidden_size": 160,
    "mlp_ratio": 4.0,
    "num_heads": 5,
    "depth": 3,
    "depth_single_blocks": 3,
    "axes_dim": [4, 14, 14],
    "theta": 50,
    "qkv_bias": True,
    "guidance_embed": True,
}
T5_CONFIG: dict[str, Any] = {
    "d_model": 64,
    "d_kv": 32,
    "d_ff": 256,
    "num_heads": 4,
    "num_layers": 2,
    "vocab_size": 32128,
}
CLIP_CONFIG: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 128,
    "num_attention_heads": 2,
    "num_hidden_layers": 2,
    "projection_dim": 32,
    "vocab_size": 49408,
}


@dataclass(frozen=True)
class Latents:
    """A family's latent format: model space = (latent - shift) * scale."""

    shift: float
    scale: float

    def inside(self, latents: Tensor) -> Tensor:
        """As the model reads them."""
        return (latents - self.shift) * self.scale

    def outside(self, latents: Tensor) -> Tensor:
        """As the autoencoder gives them."""
        return latents / self.scale + self.shift


FLUX_LATENTS, SD3_LATENTS = Latents(0.1159, 0.3611), Latents(0.0609, 1.5305)


class TinyAutoencoder(nn.Module):
    """8x down, 16 channels: a linear patch code in, a small convolutional decoder out.

    `encode`: pixels (B, 3, H, W) in -1..1 to latents (B, 16, H/8, W/8); `decode` goes back.
    `operations` makes the layers: torch's own with random weights, or the host's without any.
    Weights are those of FLUX's `latents`, whichever it gives.
    """

    def __init__(
        self,
        width: int = 128,
        blocks: int = 3,
        *,
        operations: Any = nn,
        latents: Latents = FLUX_LATENTS,
    ) -> None:
        super().__init__()
        self.latents = latents
        self.code = operations.Conv2d(3, 16, 8, stride=8)
        self.enter = operations.Conv2d(16, width, 3, padding=1)
        self.blocks = nn.ModuleList(ResidualBlock(width, operations) for _ in range(blocks))
        self.leave = operations.Conv2d(width, 3 * 64, 1)

    def encode(self, pixels: Tensor) -> Tensor:
        return self.latents.outside(FLUX_LATENTS.inside(self.code(pixels)))

    def decode(self, latents: Tensor) -> Tensor:
        x = self.enter(self.latents.inside(latents))
        for block in self.blocks:
            x = block(x)
        return nn.functional.pixel_shuffle(self.leave(x), 8)


def autoencoder_of(state: Mapping[str, Tensor], **how: Any) -> TinyAutoencoder:
    """The autoencoder with these weights, as wide and as deep as they are."""
    model = TinyAutoencoder(len(state["enter.bias"]), layers_in(state, "blocks."), **how)
    model.load_state_dict(state)
    return model


class ResidualBlock(nn.Module):
    """x + conv(silu(conv(silu(x)))), 3 x 3 at one width."""

    def __init__(self, width: int, operations: Any) -> None:
        super().__init__()
        self.first = operations.Conv2d(width, width, 3, padding=1)
        self.second = operations.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(nn.functional.silu(x))
        return x + self.second(nn.functional.silu(hidden))


def save_weights(
    name: str, state: dict[str, Tensor], metadata: dict[str, Any], folder: Path = WEIGHTS
) -> Path:
    """Writes `<name>.safetensors` in fp16, with what made it as metadata."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.safetensors"
    half = {key: value.detach().half().contiguous() for key, value in state.items()}
    save_file(half, path, {key: json.dumps(value) for key, value in metadata.items()})
    return path


def load_weights(name: str, folder: Path = WEIGHTS) -> dict[str, Tensor]:
    """The tensors of `<name>.safetensors`, as float32."""
    return {key: value.float() for key, value in load_file(folder / f"{name}.safetensors").items()}


def layers_in(state: Mapping[str, Tensor], prefix: str) -> int:
    """How many numbered layers the state has under a prefix: "blocks." counts "blocks.2.bias"."""
    return len({key[len(prefix) :].split(".")[0] for key in state if key.startswith(prefix)})


def flux_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """FLUX_CONFIG with the sizes of the state."""
    text, pooled = state["txt_in.weight"], state["vector_in.in_layer.weight"]
    return FLUX_CONFIG | {
        "hidden_size": len(text),
        "num_heads": len(text) // sum(FLUX_CONFIG["axes_dim"]),
        "context_in_dim": text.shape[1],
        "vec_in_dim": pooled.shape[1],
        "depth": layers_in(state, "double_blocks."),
        "depth_single_blocks": layers_in(state, "single_blocks."),
    }


def t5_config(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """T5_CONFIG with the sizes of the state, whose keys begin with "t5xxl."."""
    layer = "t5xxl.encoder.block.0.layer"
    return T5_CONFIG | {
        "d_model": state["t5xxl.shared.weight"].shape[1],
        "d_ff": len(state[f"{layer}.1.DenseReluDense.wi_0.weight"]),
        "num_heads": len(state[f"{layer}.0.SelfAttention.q.weight"]) // T5_CONFIG["d_kv"],
        "num_layers": layers_in(state, "t5xxl.encoder.block."),
    }


def build_model(state: dict[str, Tensor] | None = None, *stored: Any, **fields: Any) -> Any:
    """A ModelPatcher around ComfyUI's Flux at tiny size; random weights where `state` is None.

    How weights are `stored`, and `fields`, are those of `patcher_of`.
    """
    return flux_of(FLUX_CONFIG if state is None else flux_config(state), state, *stored, **fields)


def flux_of(
    config: Mapping[str, Any], state: dict[str, Tensor] | None = None, *stored: Any, **fields: Any
) -> Any:
    """A ModelPatcher around ComfyUI's Flux of this size; random weights where `state` is None."""
    import comfy.ldm.flux.model
    import comfy.supported_models

    sizes = dict(config)
    if hasattr(comfy.ldm.flux.model, "invert_slices"):  # newer hosts ask for one more
        sizes["txt_ids_dims"] = []
    return patcher_of(comfy.supported_models.Flux(sizes), state, *stored, **fields)


def patcher_of(
    config: Any,
    state: dict[str, Tensor] | None,
    stored: tuple[torch.dtype, torch.dtype | None] = (torch.float32, None),
    **fields: Any,
) -> Any:
    """A ModelPatcher around the net that the host builds of its own config.

    Weights are `stored` in one dtype and cast to the other for each layer, where there is one;
    `fields` are of the config.
    """
    import comfy.model_management
    import comfy.model_patcher

    for name, value in fields.items():
        setattr(config, name, value)
    config.set_inference_dtype(*stored)
    offload = comfy.model_management.unet_offload_device()
    base = config.get_model({}, "", device=offload)
    if state is not None:
        base.diffusion_model.load_state_dict(config.process_unet_state_dict(dict(state)))
    base.train(False).requires_grad_(False)
    device = comfy.model_management.get_torch_device()
    return comfy.model_patcher.ModelPatcher(base, load_device=device, offload_device=offload)


def build_clip(state: dict[str, Tensor] | None = None) -> Any:
    """ComfyUI's Flux CLIP: its real tokenizers before a tiny T5 encoder and a tiny CLIP-L."""
    import comfy.sd
    import comfy.text_encoders.flux

    class Target:
        params: ClassVar[dict[str, Any]] = {}
        clip = comfy.text_encoders.flux.flux_clip(dtype_t5=torch.float32)
        tokenizer = comfy.text_encoders.flux.FluxTokenizer

    clip = comfy.sd.CLIP(
        Target,
        tokenizer_data={"t5xxl_min_length": TEXT_TOKENS},
        model_options={
            "clip_l_model_config": dict(CLIP_CONFIG),
            "t5xxl_model_config": dict(T5_CONFIG) if state is None else t5_config(state),
            "dtype": torch.float32,
        },
    )
    if state is not None:
        for part in ("clip_l", "t5xxl"):
            prefix = f"{part}."
            tensors = {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}
            getattr(clip.cond_stage_model, part).transformer.load_state_dict(tensors)
    return clip


def build_vae(state: dict[str, Tensor], latents: Latents = FLUX_LATENTS) -> Any:
    """ComfyUI's VAE object around TinyAutoencoder.

    The host picks an autoencoder class by key names and has none this small, so it is asked for
    its pass-through one, whose network is then replaced.
    """
    import comfy.model_patcher
    import comfy.ops
    import comfy.sd

    vae = comfy.sd.VAE(sd={"pixel_space_vae": torch.zeros(1)})
    network = autoencoder_of(state, operations=comfy.ops.disable_weight_init, latents=latents)
    vae.first_stage_model = network.train(False).requires_grad_(False).to(vae.vae_dtype)
    vae.downscale_ratio = vae.upscale_ratio = 8
    vae.latent_channels, vae.latent_dim = 16, 2
    vae.patcher = comfy.model_patcher.ModelPatcher(
        network, load_device=vae.device, offload_device=vae.patcher.offload_device
    )
    return vae
