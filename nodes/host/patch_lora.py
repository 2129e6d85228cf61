"""A LoRA put on a MODEL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import comfy.lora
import comfy.lora_convert
import comfy.utils
from comfy.weight_adapter.lora import LoRAAdapter
from torch import Tensor

from ...erase_engine.backends.comfy.model import model_description
from ...erase_engine.validation import shortened


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
        ValueError: it was made for another model: it says so, or a layer finds no place of its
            shape.
    """
    layers = sum(key.endswith("lora_A.weight") for key in state)
    keys = comfy.lora.model_lora_keys_unet(model.model, {})
    patches = comfy.lora.load_lora(comfy.lora_convert.convert_lora(dict(state)), keys)
    fitting = {key: patch for key, patch in patches.items() if _fits(model, key, patch)}
    here = model_description(model)
    recorded = (metadata or {}).get("base_model", "")
    made_for = recorded if shortened(recorded).strip() else here
    if len(fitting) < layers or made_for != here:
        other = made_for if made_for != here else "another model"
        raise ValueError(
            f"Got {name} with {layers} layers, of which {len(fitting)} fit this model ({here}), "
            f"expected all. It was made for {shortened(other)}: load that model, or choose another "
            "LoRA."
        )
    clone = model.clone()
    if strength:
        clone.add_patches(fitting, strength)
    return clone, layers


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
