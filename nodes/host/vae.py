"""Pictures of latents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.model_management
import comfy.utils
import torch
from comfy.taesd.taehv import TAEHV
from comfy.taesd.taesd import TAESD
from torch import Tensor

from ...erase_engine.backends.comfy.model import has_frames, latent_grid

ROUNDED = 0.01  # of a number, where a VAE's weights are of 16 bits


def require_vae_of(model: Any, vae: Any) -> None:
    """Raises ValueError, before any work, where a VAE input's latents are not the MODEL's.

    Known of a VAE are its latents' channels, frames and pixels; of tiny ones (TAESD, TAEHV) also
    whose latents they are made for. A full one holds no scale and no shift, these stand in the
    model's latent format alone: those of Flux and SD3, one architecture, pass for each other.
    """
    form = model.model.latent_format
    require_vae(vae, form.latent_channels, form.latent_dimensions)
    pixels, expected = vae.spacial_compression_encode(), latent_grid(model).pixels
    if pixels != expected:
        raise _other_vae(f"{pixels} pixels a latent", f"{expected}")
    network = vae.first_stage_model
    if isinstance(network, TAESD):
        own = [network.vae_scale.item(), network.vae_shift.item()]
        wanted = [form.scale_factor, getattr(form, "shift_factor", 0.0)]
        if any(abs(x - y) > ROUNDED * abs(y) for x, y in zip(own, wanted, strict=True)):
            raise _other_vae(
                "scale {:.4g} and shift {:.4g}".format(*own), " and ".join(map(str, wanted))
            )
    made_for = network.latent_format if isinstance(network, TAEHV) else None
    if made_for not in (None, type(form)):
        raise _other_vae(f"latents of {made_for.__name__}", type(form).__name__)


def require_vae(vae: Any, channels: int, dimensions: int) -> None:
    """Raises ValueError where a VAE's latents have other channels, or no frames or some."""
    found = getattr(vae, "latent_channels", None), getattr(vae, "latent_dim", None)
    if found != (channels, dimensions):
        raise _other_vae(
            f"{found[0]} latent channels and {found[1]} dimensions", f"{channels} and {dimensions}"
        )


def _other_vae(found: str, expected: str) -> ValueError:
    return ValueError(
        f"Got a vae with {found}, expected {expected}. "
        "Load the model's own (ae.safetensors for FLUX.1, Chroma and Z-Image)."
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
