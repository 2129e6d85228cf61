"""Pictures of latents."""

from __future__ import annotations

from typing import Any

import comfy.model_management
from torch import Tensor

LATENT_CHANNELS = 16


def require_flux_vae(vae: Any) -> None:
    """Raises ValueError, before any work, where a VAE input's latents are not Flux's."""
    channels = getattr(vae, "latent_channels", None)
    if channels != LATENT_CHANNELS:
        raise ValueError(
            f"Got a vae with {channels} latent channels, expected {LATENT_CHANNELS}. "
            "Load Flux's own (ae.safetensors), or leave it out."
        )


def decode(vae: Any, latent: Tensor) -> Tensor:
    """(B, h, w, 3) pictures of model-space latents, as VAE Decode gives them."""
    from comfy.latent_formats import Flux

    return vae.decode(Flux().process_out(latent))


def decode_while_training(model: Any, vae: Any, latent: Tensor) -> Tensor:
    """`decode`, and the model back in its place: the VAE may have pushed it out of memory."""
    pictures = decode(vae, latent)
    comfy.model_management.load_models_gpu([model])
    return pictures
