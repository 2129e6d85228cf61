"""Names in LoRA files as the programs of the field write them, read as canonical ones."""

from __future__ import annotations

import re
from collections.abc import Iterable

from ..families.registry import is_layer, prefix_for

DOWN, UP, ALPHA = ".lora_A.weight", ".lora_B.weight", ".alpha"
OURS, HOSTS_OWN = "transformer.", "diffusion_model."  # the first is what most families have
# Of diffusers, of PEFT in and around it, of ComfyUI; longer ones first. Bare names have none.
PREFIXES = (
    *("transformer.base_model.model.", "base_model.model.transformer.", "base_model.model."),
    *(OURS, HOSTS_OWN),
)
PARTS = {
    **{DOWN: DOWN, ".lora_A.default.weight": DOWN, ".lora_down.weight": DOWN},
    **{UP: UP, ".lora_B.default.weight": UP, ".lora_up.weight": UP},
    ALPHA: ALPHA,
}
TEXT_ENCODER = r"(base_model\.model\.)?(text_encoders?[._\d]|lora_te\d?_|te\d?\.)"
OTHER_KINDS = {
    "LoKr": r"lokr_",
    "LoHa": r"hada_",
    "OFT": r"(^|[._])oft_|\.oft_",
    "DoRA": r"dora_scale|lora_magnitude_vector",
}


def canonical_key(key: str) -> str | None:
    """A file's key as `<layer>.lora_A.weight` and so on; None for one of another form."""
    part = next((each for each in PARTS if key.endswith(each)), None)
    if part is None:
        return None
    prefix = next((each for each in PREFIXES if key.startswith(each)), "")
    layer = key.removesuffix(part).removeprefix(prefix)
    # Without a prefix that says so, and of the host's own names, only what a family has.
    known = prefix not in ("", HOSTS_OWN) or is_layer(layer)
    if not layer or not (known or prefix == prefix_for({layer})):
        return None
    return layer + PARTS[part]


def of_text_encoder(key: str) -> bool:
    """Whether a key is of a text encoder's LoRA, which no erasure of ours has."""
    return re.match(TEXT_ENCODER, key) is not None


def other_kind(keys: Iterable[str]) -> str:
    """The name of another method that a file is of; "" for none that is known."""
    found = list(keys)
    return next(
        (name for name, sign in OTHER_KINDS.items() if any(re.search(sign, key) for key in found)),
        "",
    )
