"""What the tests of nodes put into them: a tiny graph's MODEL, CLIP and widgets, and a run."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any, ClassVar

import comfy.model_base
import comfy.model_patcher
import comfy.sd
import comfy.sd1_clip
import comfy.supported_models
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import ComfyFlowModel
from eraseanything_pack.erase_engine.interfaces import Conditioning
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from eraseanything_pack.erase_engine.lora.file import prefixed
from eraseanything_pack.nodes.attention.preview import AttentionPreview
from eraseanything_pack.nodes.lora.apply import ApplyErasure
from eraseanything_pack.nodes.lora.slots import CONNECT
from eraseanything_pack.nodes.training import memory_check
from eraseanything_pack.nodes.training.erase import EraseConcept
from eraseanything_pack.tinyworld.models import CLIP_CONFIG, build_clip, load_weights
from eraseanything_pack.tinyworld.planning import TINY_WORLD
from safetensors import safe_open
from snapshot import sample
from tiny_flux import CONFIG, build

SIZES = {**CONFIG, "context_in_dim": 64, "vec_in_dim": 32}  # what the tiny text encoders give
PROMPT = "a red star on a white background"
ERASE = {
    "concept": "star",
    "kind": "object",
    "replace_with": "",
    "synonyms": "pentagram",
    "keep": "",
    "prompts": "",
    "resolution": 64,
    "steps": 3,
    "seed": 0,
    "file_name": "",
    "recipe": "fast",
    "negative_guidance": 1.0,
    "rank": 2,
    "targets": "text_qk",
    "batch": 2,
    "preview_every": 0,
    "resume": True,
}
PLAN_FIELDS = ("concept", "kind", "replace_with", "synonyms", "keep", "prompts", "seed")
APPLY = {"file": CONNECT, "strength": 1.0}
LOOK = {"prompt": PROMPT, "words": "star\nred", "steps": 2, "seed": 0, "resolution": 64}


def flux(**sizes: int) -> Any:
    """A tiny random Flux for the tiny text encoders; some sizes may be others."""
    return build(sizes={**SIZES, **sizes})


@functools.cache
def clip() -> Any:
    """The tiny text encoders: tests train often on the same texts."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    made = build_clip(load_weights("text"))
    made.tokenizer.eraseanything_vocabulary = TINY_WORLD
    return remembering(made)


def remembering(clip_: Any) -> Any:
    """A CLIP that finds the tokens and the features of a text once."""
    clip_.tokenize = remembered(clip_.tokenize)
    clip_.encode_from_tokens = remembered(clip_.encode_from_tokens)
    return clip_


def remembered(function: Callable[..., Any]) -> Callable[..., Any]:
    """The same answers, each found once; a dict is copied whole, since its owner changes it."""
    known: dict[str, Any] = {}

    def found(given: Any, **options: Any) -> Any:
        key = repr((given, options))
        if key not in known:
            known[key] = function(given, **options)
        return deepcopy(known[key]) if isinstance(known[key], dict) else known[key]

    return found


class Estimates(dict[Any, Any]):
    """Of nets of one shape; the node's own are of one model, and tests build many alike."""

    def setdefault(self, model: Any, default: Any) -> Any:
        shape = model.model_config.unet_config
        return super().setdefault((type(model.model_config), repr(shape)), default)


memory_check._known = Estimates()


def unet() -> Any:
    """A MODEL like Stable Diffusion 1.5, in small."""
    sizes = {
        "image_size": 32,
        "in_channels": 4,
        "out_channels": 4,
        "model_channels": 32,
        "num_res_blocks": [1, 1],
        "channel_mult": [1, 2],
        "transformer_depth": [1, 1],
        "transformer_depth_output": [1, 1, 1, 1],
        "transformer_depth_middle": 1,
        "num_heads": 2,
        "context_dim": 32,
        "use_spatial_transformer": True,
        "adm_in_channels": None,
        "use_temporal_attention": False,
        "legacy": False,
    }
    config = comfy.supported_models.SD15(sizes)
    base = comfy.model_base.BaseModel(config, device=torch.device("cpu"))
    return comfy.model_patcher.ModelPatcher(base, torch.device("cpu"), torch.device("cpu"))


def other_clip() -> Any:
    """The CLIP of Stable Diffusion 1.5, in small."""

    class Target:
        params: ClassVar[dict[str, Any]] = {}
        clip = comfy.sd1_clip.SD1ClipModel
        tokenizer = comfy.sd1_clip.SD1Tokenizer

    options = {"clip_l_model_config": dict(CLIP_CONFIG), "dtype": torch.float32}
    return comfy.sd.CLIP(Target, model_options=options)


def lora_state(
    model: Any, *, strength: float = 0.3, rank: int = 2, seed: int = 5
) -> dict[str, torch.Tensor]:
    """A random LoRA for all of a Flux's text queries and keys, without the files' prefix."""
    backend = ComfyFlowModel(model)
    generator = torch.Generator().manual_seed(seed)
    slices = backend.linear_slices(backend.target_names("text_qk"))
    lora = LoraSet(slices, rank=rank, generator=generator)
    for up in lora.parameters()[1::2]:
        up.data.normal_(std=strength, generator=generator)
    return lora.state_dict()


def connected(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A state as LORA_MODEL carries it: with a file's keys."""
    return prefixed(state)


@torch.inference_mode()
def erase(model: Any, clip_: Any = None, **widgets: Any) -> tuple[Any, ...]:
    """Erase Concept as the host runs it: LORA_MODEL, LOSS_MAP, MODEL, report."""
    return EraseConcept.execute(model, clip_ or clip(), **{**ERASE, **widgets}).args


@torch.inference_mode()
def apply(model: Any, **inputs: Any) -> Any:
    """Apply Erasure LoRA's whole output."""
    return ApplyErasure.execute(model, **{**APPLY, **inputs})


@torch.inference_mode()
def looked(model: Any, clip_: Any = None, **inputs: Any) -> Any:
    """Attention Map Preview's whole output."""
    return AttentionPreview.execute(model, clip_ or clip(), **{**LOOK, **inputs})


def look(model: Any, clip_: Any = None, **inputs: Any) -> tuple[Any, ...]:
    """Attention Map Preview: IMAGE, masses."""
    return looked(model, clip_, **inputs).args


@torch.inference_mode()
def conditioning(prompt: str = PROMPT) -> Conditioning:
    """A prompt as CLIP Text Encode gives it."""
    return Conditioning.stacked(
        *clip().encode_from_tokens(clip().tokenize(prompt), return_pooled=True)
    )


def picture(model: Any, prompt: str = PROMPT) -> torch.Tensor:
    """What a KSampler would give for a prompt."""
    return sample(model, conditioning(prompt))


def record(path: Path) -> dict[str, str]:
    """A file's metadata."""
    with safe_open(path, framework="pt") as file:
        return file.metadata()
