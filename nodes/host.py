"""The border to ComfyUI: what the nodes take from the host, and how they give it back."""

from __future__ import annotations

import platform
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.model_management
import comfy.utils
import folder_paths
import torch
from torch import Tensor

from ..erase_engine.backends.comfy import ComfyFluxBackend, ComfyTextEncoder, require_flux
from ..erase_engine.concept import PICTURES, ConceptPlan, Vocabulary
from ..erase_engine.config import EraseConfig
from ..erase_engine.lora_file import save_lora
from ..erase_engine.train import Erasure, StepReport

__all__ = ["ComfyFluxBackend", "require_flux", "training_session"]

CATEGORY = "EraseAnything"
FORMAT_VERSION = "1"
FOLDER = "EraseAnything"  # in models/loras, where no name is given


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
    return ComfyTextEncoder(clip)


def vocabulary_of(clip: Any) -> Vocabulary:
    """The words that prompts are planned with: a text encoder may bring its own."""
    return getattr(clip.tokenizer, "eraseanything_vocabulary", PICTURES)


def decode(vae: Any, latent: Tensor) -> Tensor:
    """(B, h, w, 3) pictures of model-space latents, as VAE Decode gives them."""
    from comfy.latent_formats import Flux

    return vae.decode(Flux().process_out(latent))


def apply_lora(
    model: Any,
    state: Mapping[str, Tensor],
    strength: float,
    *,
    name: str,
    metadata: Mapping[str, str] | None = None,
) -> tuple[Any, int]:
    """A clone of the MODEL with the LoRA on, as core's loaders do it, and how many layers took it.

    Raises:
        ValueError: a layer of the LoRA finds no place of its shape in the model.
    """
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(state)), keys)
    expected = sum(key.endswith("lora_A.weight") for key in state)
    clone = model.clone()
    fitting = {key: patch for key, patch in patches.items() if _fits(model, key, patch)}
    if len(fitting) < expected or not expected:
        made_for = (metadata or {}).get("base_model", "another model")
        raise ValueError(
            f"{name} has {expected} layers, of which {len(fitting)} fit this model "
            f"({base_model_of(model)}). It was made for {made_for}: load that one."
        )
    clone.add_patches(fitting, strength)
    return clone, len(fitting)


def _fits(model: Any, key: str | tuple[Any, ...], patch: Any) -> bool:
    """Whether B A has the shape of the rows that it changes."""
    name, rows = (key, None) if isinstance(key, str) else key[:2]
    shape = list(comfy.utils.get_attr(model.model, name).shape)
    if rows is not None:
        shape[rows[0]] = rows[2]
    up, down = patch.weights[0], patch.weights[1]
    return [up.shape[0], down.shape[1]] == shape[:2]


def base_model_of(model: Any) -> str:
    """The model's kind and size in words, for metadata and errors."""
    params = getattr(model.model.diffusion_model, "params", None)
    if params is None:
        return type(model.model).__name__
    return (
        f"Flux, {params.depth} + {params.depth_single_blocks} blocks, "
        f"{params.hidden_size} wide, {params.num_heads} heads"
    )


# --- progress ----------------------------------------------------------------------------------


def step_progress(total: int) -> Callable[[StepReport], None]:
    """Moves the node's progress bar; raises where the user has cancelled."""
    bar = comfy.utils.ProgressBar(total)

    def on_step(report: StepReport) -> None:
        bar.update_absolute(report.step, total)
        comfy.model_management.throw_exception_if_processing_interrupted()

    return on_step


def sampling_progress(total: int) -> Callable[[], None]:
    """The same for a number of equal steps."""
    bar = comfy.utils.ProgressBar(total)

    def on_step() -> None:
        bar.update(1)
        comfy.model_management.throw_exception_if_processing_interrupted()

    return on_step


# --- files and text ----------------------------------------------------------------------------


def lines_of(text: str) -> list[str]:
    """The lines of a text field, without blanks."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def lora_file_path(name: str) -> Path:
    """The file behind an entry of the combo; ValueError where there is none."""
    found = folder_paths.get_full_path("loras", name)
    if found is None:
        raise ValueError(
            f"Got the file '{name}', which is not in models/loras. Choose one from the list."
        )
    return Path(found)


def new_lora_path(name: str, concept: str) -> Path:
    """A file in models/loras that does not exist yet: the name and the next free number.

    Raises:
        ValueError: the name is absolute, climbs out of the folder or cannot be a file's.
    """
    root = Path(folder_paths.get_folder_paths("loras")[0]).resolve()
    name = name.strip().removesuffix(".safetensors") or f"{FOLDER}/{_as_file_name(concept)}"
    bad = re.search(r'[\x00-\x1f<>:"|?*\\]', name) or name.endswith(("/", "."))
    stem = (root / name).resolve()
    if bad or not stem.is_relative_to(root) or stem == root or len(stem.name) > 200:
        raise ValueError(
            f"Got the file name '{name}', expected a name inside models/loras, such as "
            "'star' or 'shapes/star'. Leave out '..', a drive or a leading '/'."
        )
    return _numbered(stem)


def _numbered(stem: Path) -> Path:
    number = 1
    while (path := stem.with_name(f"{stem.name}_{number:05}.safetensors")).exists():
        number += 1
    return path


def _as_file_name(concept: str) -> str:
    return re.sub(r"[^\w]+", "_", concept).strip("_")[:60] or "concept"


def save_erasure(
    path: Path, erasure: Erasure, plan: ConceptPlan, config: EraseConfig, *, base_model: str
) -> None:
    """Writes the LoRA with everything that it takes to train it again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    last = {name: values[-1] for name, values in erasure.history.items()}
    metadata = {
        "format": "eraseanything",
        "format_version": FORMAT_VERSION,
        "base_model": base_model,
        "concept": plan.concept,
        "plan": plan.to_json(),
        "config": config.to_json(),
        "figures": {"forwards": erasure.forwards, "last_losses": last},
        "versions": {"torch": torch.__version__, "python": platform.python_version()},
    }
    save_lora(path, erasure.state, metadata)
