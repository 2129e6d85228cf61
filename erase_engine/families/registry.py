"""The families that the engine knows, and which of them a model is of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from .auraflow import AURAFLOW
from .chroma import CHROMA
from .family import ComfyText, Family, NetLayout
from .flux import FLUX
from .flux2 import FLUX2
from .qwen_image import QWEN_IMAGE
from .sd3 import SD3
from .z_image import LUMINA_2, Z_IMAGE

FAMILIES: tuple[Family, ...] = (
    FLUX,
    SD3,
    CHROMA,
    FLUX2,
    QWEN_IMAGE,
    AURAFLOW,
    Z_IMAGE,
    LUMINA_2,
)
Host = Literal["comfy", "diffusers"]


def family_of(kind: str, host: Host, net: Any = None) -> Family:
    """The family of a model by the exact name of its class, and by its net, if that is given.

    Raises ValueError where there is none, or where a net of that class is another model.
    """
    layouts = [(family, layout_of(family, host)) for family in FAMILIES]
    of_class = [(family, each) for family, each in layouts if each and kind in each.classes]
    refused = ""
    for family, layout in of_class:
        refused = "" if net is None else _refusal(layout, net)
        if not refused:
            return family
    if of_class:
        name, models = of_class[0][0].name, of_class[0][0].models
        raise ValueError(f"Got {refused}, expected text-to-image {name}. Load {models}.")
    names = listed([family.name for family, layout in layouts if layout])
    # The host's class of all others, which says less than that of the net.
    found = kind if net is None or kind != "BaseModel" else type(net).__name__
    raise ValueError(f"Got {found}, expected a {names} model. Load {models_of(host)}.")


def _refusal(layout: NetLayout, net: Any) -> str:
    """What makes a net unfit: what it is, or that it lacks what the host's own nets have."""
    try:
        return layout.refusal(net)
    except AttributeError as error:
        return f"a net that another pack has put there ({type(net).__name__}: {error})"


def described_family(description: str) -> Family | None:
    """The family of a model that `Family.describe` has put in words; None for others."""
    name = description.split(",")[0]
    return next((family for family in FAMILIES if family.name == name), None)


def listed(names: Sequence[str]) -> str:
    """Flux, SD3 or Chroma."""
    *first, last = names
    return f"{', '.join(first)} or {last}" if first else last


def models_of(host: Host) -> str:
    """What people load there."""
    return "; ".join(family.models for family in FAMILIES if layout_of(family, host))


def layout_of(family: Family, host: Host) -> NetLayout | None:
    """How a host builds the family's net; None where it can't be trained there."""
    if host == "comfy":
        return family.comfy
    return family.diffusers and family.diffusers.layout


def prefix_for(layers: Iterable[str]) -> str:
    """What loaders of LoRA files want before these canonical names."""
    modules = {name.split(".")[0] for name in layers}
    found = (family.prefix for family in FAMILIES if modules <= _modules(family))
    return next(found, FAMILIES[0].prefix)


def is_layer(name: str) -> bool:
    """Whether a canonical name is of a module that a family has: a list of blocks, or a target."""
    return name.split(".")[0] in _MODULES


def _modules(family: Family) -> set[str]:
    targets = family.targets.values()
    names = [name for some in targets for name in some.names(1)]
    blocks = family.diffusers.layout.blocks if family.diffusers else ()
    return {name.split(".")[0] for name in (*names, *(each.path for each in blocks))}


_MODULES = frozenset(name for family in FAMILIES for name in _modules(family))


def text_of(
    keys: Iterable[str], tokenizer: str, wanted: Family | None = None
) -> tuple[Family, ComfyText]:
    """The family of a ComfyUI CLIP, and what it takes of it; ValueError for others.

    Args:
        keys: of what it tokenizes to.
        tokenizer: the class of what does.
        wanted: the model's family, where there is a model.
    """
    found = sorted(keys)
    known = [(family, text) for family in FAMILIES for text in family.texts]
    of_clip = next(
        (
            (family, text)
            for family, text in known
            if found == sorted(key for key, _ in text.encoders)
            and text.tokenizer in ("", tokenizer)
        ),
        None,
    )
    if of_clip and wanted in (None, of_clip[0]):
        return of_clip
    got = f"a clip of {of_clip[0].name}" if of_clip else f"text encoders {found}"
    if wanted is None:
        loaders = dict.fromkeys(f"{family.name} ({text.loader})" for family, text in known)
        raise ValueError(
            f"Got {got}, expected those of a model that is supported: {', '.join(loaders)}."
        )
    loaders = " or ".join(dict.fromkeys(text.loader for text in wanted.texts))
    raise ValueError(
        f"Got {got} and a model of {wanted.name}, expected the model's own text encoders. Load "
        f"them with {loaders}."
    )
