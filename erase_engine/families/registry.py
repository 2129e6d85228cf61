"""The families that the engine knows, and which of them a model is of."""

from __future__ import annotations

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
