"""Pictures of latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from torch import Tensor

from ...erase_engine.backends.comfy.model import has_frames


def require_vae_of(model: Any, vae: Any) -> None:
    """Raises ValueError, before any work, where a VAE input's latents are not the MODEL's."""
    form = model.model.latent_format
    require_vae(vae, form.latent_channels, form.latent_dimensions)


def require_vae(vae: Any, channels: int, dimensions: int) -> None:
    """Raises ValueError where a VAE's latents have other channels, or no frames or some."""
    found = getattr(vae, "latent_channels", None), getattr(vae, "latent_dim", None)
    if found != (channels, dimensions):
        raise ValueError(
            f"Got a vae with {found[0]} latent channels and {found[1]} dimensions, expected "
            f"{channels} and {dimensions}. "
            "Load the model's own (ae.safetensors for FLUX.1, Chroma and Z-Image), or leave it out."
        )


def encode(
    model: Any,
    vae: Any,
    pictures: Tensor,
    size: tuple[int, int],
    *,
    on_picture: Callable[[], None],
) -> Tensor:
    """(N, C, h, w) latents, as the MODEL reads them, of pictures (N, height, width, 3) in 0..1.

    Pictures are cropped around their middle and resized to `size`, height and width in pixels.
    `on_picture` is called after each and may raise to cancel.
    """
    height, width = size
    resized = comfy.utils.common_upscale(
        pictures[..., :3].movedim(-1, 1), width, height, "lanczos", "center"
    ).movedim(1, -1)
    latents = []
    for picture in resized:
        latent = model.model.process_latent_in(vae.encode(picture[None]))
        latents.append(latent[:, :, 0] if has_frames(model) else latent)
        on_picture()
    return torch.cat(latents).float().cpu()


def decode(model: Any, vae: Any, latent: Tensor) -> Tensor:
    """(B, h, w, 3) pictures of the MODEL's latents (B, C, h, w), as VAE Decode gives them."""
    latent = latent[:, :, None] if has_frames(model) else latent
    return decoded(vae, model.model.process_latent_out(latent))


def decoded(vae: Any, latent: Tensor) -> Tensor:
    """(B, h, w, 3) pictures of latents as VAE Decode reads them; frames stand one after another."""
    return vae.decode(latent).flatten(0, -4)


def decode_while_training(
    model: Any, vae: Any, latent: Tensor, *, memory_required: int = 0
) -> Tensor:
    """`decode`, and the model back in its place: the VAE may have pushed it out of memory.

    `memory_required`: bytes to leave free beside the weights, as the training's session has them.
    """
    pictures = decode(model, vae, latent)
    comfy.model_management.load_models_gpu([model], memory_required=memory_required)
    return pictures
