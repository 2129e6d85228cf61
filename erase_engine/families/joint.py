"""Layers of nets whose joint blocks have a text side, by the names that diffusers gives them all.

Models take of a set what they have: a last block that gives no text on has no layers for it.
"""

from __future__ import annotations

from ..interfaces import Entering
from .family import BlockList, TargetSet

BLOCKS = BlockList(
    "transformer_blocks",
    ("hidden_states", "encoder_hidden_states"),
    (0, 1),
    joint=True,
    kind="double",
)
_TEXT_QK = ("add_q_proj", "add_k_proj")
_TEXT = (*_TEXT_QK, "add_v_proj", "to_add_out")
_POOLED = ("time_text_embed.text_embedder.linear_1", "time_text_embed.text_embedder.linear_2")


def entrances(text: str) -> dict[str, Entering]:
    """Where text enters a net whose Linear for it has this name, and where the pooled vector.

    Nothing that comes after has seen a word before.
    """
    return {text: "text", _POOLED[0]: "pooled"}


def targets(text: str, blocks: str = BLOCKS.path) -> dict[str, TargetSet]:
    """All sets of layers to adapt, in a net whose joint blocks are called so.

    The pooled text vector reaches every block past its attention: sets without its layers can't
    change what that vector alone decides.
    """

    def attention(*layers: str) -> tuple[str, ...]:
        return tuple(f"{blocks}.{{}}.attn.{layer}" for layer in layers)

    return {
        "text_in": TargetSet((), (text, _POOLED[0])),
        "text_in_pooled": TargetSet(attention(*_TEXT), (text, *_POOLED)),
        "text_qk": TargetSet(attention(*_TEXT_QK)),
        "dual_qk": TargetSet(attention(*_TEXT_QK, "to_q", "to_k")),
        "text_all": TargetSet(attention(*_TEXT)),
        "text_pooled": TargetSet(attention(*_TEXT), _POOLED),
        "all_attention": TargetSet(attention(*_TEXT, "to_q", "to_k", "to_v", "to_out.0")),
    }


ENTRANCES, TARGETS = entrances("context_embedder"), targets("context_embedder")
