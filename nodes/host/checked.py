"""What comes to a node, held to its schema: other nodes and programs may send anything."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from typing import Any

import numpy
from comfy_api.latest import io
from torch import Tensor

from ...erase_engine.validation import check_number, told

Fits = Callable[[Any], bool]


def _is_tensor(value: Any, *dimensions: int) -> bool:
    return isinstance(value, Tensor) and value.ndim in dimensions and value.numel() > 0


# What a link of each type carries, in words, and by what it is known; packs have classes of their
# own for models and text encoders.
_CARRIED: dict[str, tuple[str, Fits]] = {
    "MODEL": ("a MODEL", lambda value: hasattr(value, "model_options")),
    "CLIP": (
        "a CLIP of the model's text encoders, as DualCLIPLoader or CLIPLoader give it",
        lambda value: hasattr(value, "tokenizer"),
    ),
    "VAE": ("a VAE", lambda value: hasattr(value, "latent_channels")),
    "CLIP_VISION": ("a CLIP_VISION", lambda value: hasattr(value, "encode_image")),
    "LORA_MODEL": (
        "a LORA_MODEL",
        lambda value: (
            isinstance(value, Mapping)
            and len(value) > 0
            and all(isinstance(each, Tensor) for each in value.values())
        ),
    ),
    "IMAGE": (
        "an IMAGE of (pictures, height, width, 3)",
        lambda value: _is_tensor(value, 4) and value.shape[-1] in (3, 4),
    ),
    "LATENT": (
        "a LATENT with samples of (pictures, channels, height, width)",
        lambda value: isinstance(value, Mapping) and _is_tensor(value.get("samples"), 4, 5),
    ),
}


def our_own(name: str, kind: type) -> Any:
    """A type of links between nodes of this pack, which carry `kind`."""
    _CARRIED[name] = (f"an {name}", lambda value: isinstance(value, kind))
    return io.Custom(name)


def checked(execute: Callable[..., io.NodeOutput]) -> Callable[..., io.NodeOutput]:
    """A node's `execute`, below `@classmethod`, that is given only what its schema says.

    The host's own check sees neither what links bring nor NaN. Raises ValueError, naming the input.
    """
    names = list(inspect.signature(execute).parameters)

    @functools.wraps(execute)
    def held(cls: Any, *args: Any, **inputs: Any) -> io.NodeOutput:
        given = dict(zip(names[1:], args, strict=False)) | inputs
        for one in cls.define_schema().inputs:
            left_out = one.io_type in _CARRIED and not one.optional  # where a link leads nowhere
            if one.id in given or left_out:
                given[one.id] = _held(one, given.get(one.id))
        return execute(cls, **given)

    return held


def _held(one: Any, value: Any) -> Any:
    """The value as the input takes it; choices are left to who knows what they mean."""
    if isinstance(one, io.Int.Input | io.Float.Input):
        number = value.item() if isinstance(value, numpy.generic) else value  # others compute so
        whole = isinstance(one, io.Int.Input)
        check_number(one.id, number, low=one.min, high=one.max, whole=whole)
        return number
    if isinstance(one, io.String.Input | io.Boolean.Input):
        kind, what = (
            (str, "a text") if isinstance(one, io.String.Input) else (bool, "true or false")
        )
        if not isinstance(value, kind):
            raise ValueError(
                f"Got {told(value)} for {one.id}, expected {what}. Connect or write one."
            )
    elif one.io_type in _CARRIED and not (value is None and one.optional):
        what, fits = _CARRIED[one.io_type]
        if not fits(value):
            got = f"{told(value)} for {one.id}"
            if value is None:
                got = f"no {one.id} (some checkpoints hold none)"
            raise ValueError(f"Got {got}, expected {what}. Connect one to it.")
    return value
