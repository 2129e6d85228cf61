"""The families that the engine knows, and which of them a model is of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from .family import Family
from .flux import FLUX

FAMILIES: tuple[Family, ...] = (FLUX,)
NAMES = " or ".join(family.name for family in FAMILIES)
MODELS = "; ".join(family.models for family in FAMILIES)
Host = Literal["comfy", "diffusers"]


def family_of(kind: str, host: Host, *, net: str = "") -> Family:
    """The family of a model by the exact name of its class.

    Raises ValueError where there is none; `net` is what people know it by, if not by `kind`.
    """
    for family in FAMILIES:
        if kind in getattr(family, host).classes:
            return family
    raise ValueError(f"Got {net or kind}, expected a {NAMES} model. Load {MODELS}.")


def family_of_tokenizers(found: Iterable[str]) -> Family:
    """The family of a ComfyUI CLIP by the keys of what it tokenizes to; ValueError for others."""
    keys = sorted(found)
    for family in FAMILIES:
        if keys == sorted(family.tokenizers):
            return family
    wanted = " or ".join(f"{sorted(one.tokenizers)} of {one.name}" for one in FAMILIES)
    loaders = " or ".join(family.text_loader for family in FAMILIES)
    raise ValueError(f"Got text encoders {keys}, expected {wanted}. Load them with {loaders}.")
