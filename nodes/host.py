"""The border to ComfyUI: what the nodes take from the host, and how they give it back."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.model_management
import comfy.utils
import torch
from comfy.weight_adapter.lora import LoRAAdapter
from torch import Tensor

from ..erase_engine.backends.comfy import ComfyFluxBackend, ComfyTextEncoder, require_flux
from ..erase_engine.concept import PICTURES, Vocabulary
from ..erase_engine.sentence import shortened
from ..erase_engine.train import StepReport

__all__ = ["ComfyFluxBackend", "require_flux", "training_session"]

CATEGORY = "EraseAnything"
LATENT_CHANNELS = 16


# --- models ------------------------------------------------------------------------------------


@contextmanager
def training_session(
    model: Any,
    *,
    guidance: float | None = 3.5,
    checkpointing: bool = True,
    memory_required: int = 0,
) -> Iterator[ComfyFluxBackend]:
    """A loaded Flux with exact gradients; afterwards the MODEL is bit for bit what it was.

    Args:
        model: the node's MODEL input.
        guidance: FLUX.1 [dev]'s guidance input for teacher and student.
        checkpointing: recompute each block in backward instead of keeping its activations.
        memory_required: bytes to leave free beside the weights.

    Raises:
        ValueError: the model is not a text-to-image Flux; raised before anything is loaded.
    """
    require_flux(model)
    comfy.model_management.load_models_gpu([model], memory_required=memory_required)
    backend = ComfyFluxBackend(model, guidance=guidance, checkpointing=checkpointing)
    with backend.session():
        yield backend


@contextmanager
def ordinary_tensors() -> Iterator[None]:
    """For text encoding: nodes run in inference mode, whose tensors autograd may not save."""
    with torch.inference_mode(False), torch.no_grad():
        yield


def encoder_for(clip: Any) -> ComfyTextEncoder:
    """The CLIP input as the engine's text encoder; ValueError where it is not a Flux one."""
    if clip is None:
        raise ValueError(
            "Got no clip: the checkpoint holds none. Load text encoders with DualCLIPLoader, "
            "type flux."
        )
    return ComfyTextEncoder(clip)


def vocabulary_of(clip: Any) -> Vocabulary:
    """The words that prompts are planned with: a text encoder may bring its own."""
    return getattr(clip.tokenizer, "eraseanything_vocabulary", PICTURES)


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


def apply_lora(
    model: Any,
    state: Mapping[str, Tensor],
    strength: float,
    *,
    name: str,
    metadata: Mapping[str, str] | None = None,
) -> tuple[Any, int]:
    """A clone of the MODEL with the LoRA on, as core's loaders do it, and how many layers took it.

    Strength 0 adds nothing, so that the clone has the model's own bits.

    Raises:
        ValueError: no LoRA of this form, or one that was made for another model: it says so, or
            a layer finds no place of its shape.
    """
    layers = sum(key.endswith("lora_A.weight") for key in state)
    if not layers:
        raise ValueError(
            f"Got {name} without a layer such as 'transformer.<layer>.lora_A.weight', expected "
            "an erasure LoRA. Connect LORA_MODEL of Erase Concept, or choose a file it saved."
        )
    fitting = _fitting_patches(model, state)
    here = base_model_of(model)
    made_for = (metadata or {}).get("base_model", here)
    if len(fitting) < layers or made_for != here:
        other = made_for if made_for != here else "another model"
        raise ValueError(
            f"Got {name} with {layers} layers, of which {len(fitting)} fit this model ({here}). "
            f"It was made for {shortened(other)}: load that model, or choose another LoRA."
        )
    clone = model.clone()
    if strength:
        clone.add_patches(fitting, strength)
    return clone, layers


def _fitting_patches(model: Any, state: Mapping[str, Tensor]) -> dict[Any, Any]:
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(state)), keys)
    return {key: patch for key, patch in patches.items() if _fits(model, key, patch)}


def _fits(model: Any, key: str | tuple[Any, ...], patch: Any) -> bool:
    """Whether B A has the shape of the rows that it changes."""
    if not isinstance(patch, LoRAAdapter):
        return False
    name, rows = (key, None) if isinstance(key, str) else key[:2]
    shape = list(comfy.utils.get_attr(model.model, name).shape)
    if rows is not None:
        shape[rows[0]] = rows[2]
    up, down = patch.weights[0], patch.weights[1]
    return [up.shape[0], down.shape[1]] == shape[:2]


def base_model_of(model: Any) -> str:
    """The model's kind and size in words, for metadata and errors."""
    kind = type(model.model).__name__
    params: Any = getattr(model.model.diffusion_model, "params", None)
    sizes = ("depth", "depth_single_blocks", "hidden_size", "num_heads")
    if any(not hasattr(params, name) for name in sizes):
        return kind
    blocks = f"{params.depth} + {params.depth_single_blocks} blocks"
    return f"{kind}, {blocks}, {params.hidden_size} wide, {params.num_heads} heads"


# --- progress ----------------------------------------------------------------------------------


def step_progress() -> Callable[[StepReport], None]:
    """Moves the node's progress bar, by forward passes; raises where the user has cancelled."""
    bar = comfy.utils.ProgressBar(1)

    def on_step(report: StepReport) -> None:
        bar.update_absolute(report.forwards, report.total_forwards)
        comfy.model_management.throw_exception_if_processing_interrupted()

    return on_step


def sampling_progress(total: int) -> Callable[[], None]:
    """The same for a number of equal steps."""
    bar = comfy.utils.ProgressBar(total)

    def on_step() -> None:
        bar.update(1)
        comfy.model_management.throw_exception_if_processing_interrupted()

    return on_step
