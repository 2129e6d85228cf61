"""A LoRA that is on in a part of sampling only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import Any

import comfy.patcher_extension as extension
import torch
from torch import Tensor

from ...erase_engine.backends.comfy.model import ComfyFlowModel
from ...erase_engine.lora.adapters import LoraSet
from ...erase_engine.lora.dialects import DOWN, UP
from ...erase_engine.lora.file import of_one_rank

KEY = "eraseanything_range"
NOT_ALWAYS_ON = (
    "Got a training on an erasure that is on in a part of sampling, expected one that is always "
    "on. Set start to 0 and end to 1 on Apply Erasure LoRA."
)


def apply_during(
    model: Any, state: Mapping[str, Tensor], strength: float, *, start: float, end: float
) -> Any:
    """A clone of the MODEL with the LoRA on from `start` to before `end`, as shares of sampling.

    The host's own patches hold for the whole of sampling, so the adapters act as hooks on the
    layers, in every forward pass whose sigma lies in the range. No weight is touched.
    """
    sampling = model.get_model_object("model_sampling")
    first, last = sampling.percent_to_sigma(start), sampling.percent_to_sigma(end)
    lora, slices = _adapters(model, state, strength)
    wrapper = _wrapper(lora, slices, lambda sigma: (sigma <= first) & (sigma > last))
    clone = model.clone()
    # Every net has this wrapper, and it is given sigma; a net's own time may be 1,000 times that.
    kind = extension.WrappersMP.APPLY_MODEL
    extension.add_wrapper_with_key(kind, KEY, wrapper, clone.model_options, is_model_options=True)
    return clone


def require_always_on(model: Any) -> None:
    """Raises ValueError, before any work, where an erasure on the MODEL has a range."""
    wrappers = model.model_options.get("transformer_options", {}).get("wrappers", {})
    if wrappers.get(extension.WrappersMP.APPLY_MODEL, {}).get(KEY):
        raise ValueError(NOT_ALWAYS_ON)


def _adapters(
    model: Any, state: Mapping[str, Tensor], strength: float
) -> tuple[LoraSet, dict[str, Any]]:
    """The LoRA, `strength` times as strong, and where it acts."""
    mine = of_one_rank({key: value.float() for key, value in state.items()})
    names = [key.removesuffix(DOWN) for key in mine if key.endswith(DOWN)]
    for name in names:
        mine[name + UP] = strength * mine[name + UP]
    with torch.inference_mode(False):
        slices = ComfyFlowModel(model).linear_slices(names)
        lora = LoraSet.from_state(slices, mine)
    for parameter in lora.parameters():
        parameter.requires_grad_(False)
    return lora, slices


def _wrapper(
    lora: LoraSet, slices: dict[str, Any], inside: Callable[[Tensor], Tensor]
) -> Callable[..., Any]:
    """The host's wrapper of a forward pass: (executor, x, sigma, ...)."""
    # A net that torch's compiler has compiled without hooks does not see them. Since torch 2.6.
    stand_aside = getattr(torch.compiler, "set_stance", nullcontext)

    def wrapper(executor: Any, x: Tensor, sigma: Tensor, *args: Any, **kwargs: Any) -> Any:
        on = inside(sigma)
        if torch.is_grad_enabled() or bool(on.any()) != bool(on.all()):
            raise ValueError(NOT_ALWAYS_ON)
        if not bool(on.any()):
            return executor(x, sigma, *args, **kwargs)
        with stand_aside("force_eager"), lora.to(device=x.device).attach(slices):
            return executor(x, sigma, *args, **kwargs)

    return wrapper
