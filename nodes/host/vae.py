"""Pictures of latents."""

from __future__ import annotations

from typing import Any

import comfy.model_management
from torch import Tensor


def latent_channels(model: Any) -> int:
    """Of a MODEL's latents."""
    return model.model.latent_format.latent_channels


def require_vae(vae: Any, channels: int) -> None:
    """Raises ValueError, before any work, where a VAE input's latents have other channels."""
    found = getattr(vae, "latent_channels", None)
    if found != channels:
        raise ValueError(
            f"Got a vae with {found} latent channels, expected {channels}. "
            "Load the model's own (ae.safetensors for FLUX.1), or leave it out."
        )


def decode(model: Any, vae: Any, latent: Tensor) -> Tensor:
    """(B, h, w, 3) pictures of the MODEL's latents (B, C, h, w), as VAE Decode gives them."""
    return vae.decode(model.model.process_latent_out(latent))


def decode_while_training(
    model: Any, vae: Any, latent: Tensor, *, memory_required: int = 0
) -> Tensor:
    """`decode`, and the model back in its place: the VAE may have pushed it out of memory.

    `memory_required`: bytes to leave free beside the weights, as the training's session has them.
    """
    pictures = decode(model, vae, latent)
    comfy.model_management.load_models_gpu([model], memory_required=memory_required)
    return pictures
