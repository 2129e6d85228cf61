"""A node's schema as this host knows it, with labels in title case."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from comfy_api.latest import io

CATEGORY = "EraseAnything"
# Labels that are not the id in title case. Ids are for ever; labels may change.
LABELS = {
    "clip": "CLIP",
    "clip_vision": "CLIP Vision",
    "edited": "Edited Plan (JSON)",
    "end": "End Percent",
    "json": "JSON",
    "lora": "LoRA",
    "start": "Start Percent",
    "vae": "VAE",
}


def node_schema(*, inputs: list[Any], outputs: list[Any], **others: Any) -> io.Schema:
    """A schema in our category, without the fields that this host does not know.

    Each input gets its id in title case as its label, or the one in LABELS; so does each output
    that is not called as its type is.
    """
    for one in (*inputs, *(each for each in outputs if each.id.islower())):
        one.display_name = LABELS.get(one.id, one.id.replace("_", " ").title())
    known = {field.name for field in fields(io.Schema)}
    given = {name: value for name, value in others.items() if name in known}
    return io.Schema(category=CATEGORY, inputs=inputs, outputs=outputs, **given)
