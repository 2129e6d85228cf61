"""Layers of nets whose joint blocks have a text side, by the names that diffusers gives them all.

Models take of a set what they have: a last block that gives no text on has no layers for it.
"""

from __future__ import annotations

from ..interfaces import Entering
from .family import TargetSet

_TEXT_QK = ("add_q_proj", "add_k_proj")
_TEXT = (*_TEXT_QK, "add_v_proj", "to_add_out")
_POOLED = ("time_text_embed.text_embedder.linear_1", "time_text_embed.text_embedder.linear_2")


def _attention(*layers: str) -> tuple[str, ...]:
    return tuple(f"transformer_blocks.{{}}.attn.{layer}" for layer in layers)


# Where text enters: nothing that comes after has seen a word before.
ENTRANCES: dict[str, Entering] = {"context_embedder": "text", _POOLED[0]: "pooled"}
# The pooled text vector reaches every block past its attention: sets without its layers can't
# change what that vector alone decides.
TARGETS = {
    "text_in": TargetSet((), tuple(ENTRANCES)),
    "text_in_pooled": TargetSet(_attention(*_TEXT), ("context_embedder", *_POOLED)),
    "text_qk": TargetSet(_attention(*_TEXT_QK)),
    "dual_qk": TargetSet(_attention(*_TEXT_QK, "to_q", "to_k")),
    "text_all": TargetSet(_attention(*_TEXT)),
    "text_pooled": TargetSet(_attention(*_TEXT), _POOLED),
    "all_attention": TargetSet(_attention(*_TEXT, "to_q", "to_k", "to_v", "to_out.0")),
}
