"""A VAE of another model is refused by all that the host's own VAE object knows of itself."""

from __future__ import annotations

from typing import Any

import comfy.latent_formats
import comfy.sd
import pytest
import torch
from comfy.taesd.taehv import TAEHV
from comfy.taesd.taesd import TAESD
from eraseanything_pack.nodes.host.vae import require_vae_of
from families.nets import NETS

TINY = {  # as Load VAE makes them of their two files
    "taef1": (16, comfy.latent_formats.Flux()),
    "taesd3": (16, comfy.latent_formats.SD3()),
    "taesdxl": (4, comfy.latent_formats.SDXL()),
    "taesd": (4, comfy.latent_formats.SD15()),
}
FITTING = {"flux": "taef1", "chroma": "taef1", "sd3": "taesd3", "auraflow": "taesdxl"}


def tiny(name: str) -> Any:
    channels, form = TINY[name]
    state = TAESD(latent_channels=channels).state_dict()
    numbers = form.scale_factor, getattr(form, "shift_factor", 0.0)
    state["vae_scale"], state["vae_shift"] = map(torch.tensor, numbers)
    return comfy.sd.VAE(sd=state, dtype=torch.bfloat16)


def light(dtype: torch.dtype) -> Any:
    """Of frames: the host tells HunyuanVideo's from Wan's by the file's type."""
    state = TAEHV(latent_channels=16).to(dtype).state_dict()
    return comfy.sd.VAE(sd=state)


@pytest.mark.parametrize("net", FITTING)
def test_a_tiny_autoencoder_of_the_models_own_scale_alone_is_taken(net: str) -> None:
    model = NETS[net].build()
    require_vae_of(model, tiny(FITTING[net]))
    alike = [name for name in TINY if TINY[name][0] == NETS[net].channels]
    for name in set(alike) - {FITTING[net]}:
        wanted = model.model.latent_format.scale_factor
        with pytest.raises(ValueError, match=rf"Got a vae with scale .*expected {wanted} and "):
            require_vae_of(model, tiny(name))


def test_a_light_autoencoder_of_frames_says_whose_they_are() -> None:
    model = NETS["qwen-image"].build()
    require_vae_of(model, light(torch.float32))
    with pytest.raises(ValueError, match=r"latents of HunyuanVideo, expected Wan21. Load the"):
        require_vae_of(model, light(torch.float16))


def test_another_number_of_pixels_is_told_in_spite_of_the_same_channels() -> None:
    upscaler = comfy.sd.VAE(sd={"decoder.conv_in.weight": torch.zeros(512, 16, 3, 3)})
    with pytest.raises(ValueError, match=r"Got a vae with 4 pixels a latent, expected 8. Load"):
        require_vae_of(NETS["sd3"].build(), upscaler)
