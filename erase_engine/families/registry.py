"""The families that the engine knows, and which of them a model is of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from .family import Family, NetLayout
from .flux import FLUX
from .sd3 import SD3

FAMILIES: tuple[Family, ...] = (FLUX, SD3)
Host = Literal["comfy", "diffusers"]


def family_of(kind: str, host: Host, *, net: str = "") -> Family:
    """The family of a model by the exact name of its class.

    Raises ValueError where there is none; `net` is what people know it by, if not by `kind`.
    """
    for family in FAMILIES:
        layout = layout_of(family, host)
        if layout and kind in layout.classes:
            return family
    names = " or ".join(family.name for family in FAMILIES if layout_of(family, host))
    raise ValueError(f"Got {net or kind}, expected a {names} model. Load {models_of(host)}.")


def models_of(host: Host) -> str:
    """What people load there."""
    return "; ".join(family.models for family in FAMILIES if layout_of(family, host))


def layout_of(family: Family, host: Host) -> NetLayout | None:
    """How a host builds the family's net; None where it can't be trained there."""
    if host == "comfy":
        return family.comfy
    return family.diffusers and family.diffusers.layout


def family_of_tokenizers(found: Iterable[str]) -> Family:
    """The family of a ComfyUI CLIP by the keys of what it tokenizes to; ValueError for others."""
    keys = sorted(found)
    wanted = {family.name: sorted(key for key, _ in family.encoders) for family in FAMILIES}
    for family in FAMILIES:
        if keys == wanted[family.name]:
            return family
    expected = " or ".join(f"{some} of {name}" for name, some in wanted.items())
    loaders = " or ".join(family.text_loader for family in FAMILIES)
    raise ValueError(f"Got text encoders {keys}, expected {expected}. Load them with {loaders}.")
