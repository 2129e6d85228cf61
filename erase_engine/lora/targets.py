"""Which layers are adapted, by the name of a set."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TargetSet:
    """Layers that are adapted: of every double block, and outside of them."""

    block: tuple[str, ...]
    outside: tuple[str, ...] = ()

    @property
    def text_inputs(self) -> int:
        """How many inputs its adapters see in a block's text stream: before q k v, after them."""
        return len({layer == "to_add_out" for layer in self.block if "add" in layer})

    @property
    def image_inputs(self) -> int:
        """The same for the image stream."""
        return len({layer == "to_out.0" for layer in self.block if "add" not in layer})


_TEXT = ("add_q_proj", "add_k_proj", "add_v_proj", "to_add_out")
_POOLED = (
    "time_text_embed.text_embedder.linear_1",
    "time_text_embed.text_embedder.linear_2",
)
# What is trained, by name. The pooled text vector reaches every block past its attention: sets
# without it can't change what that vector alone decides.
TARGETS: dict[str, TargetSet] = {
    "text_qk": TargetSet(("add_q_proj", "add_k_proj")),
    "dual_qk": TargetSet(("add_q_proj", "add_k_proj", "to_q", "to_k")),
    "text_all": TargetSet(_TEXT),
    "text_pooled": TargetSet(_TEXT, _POOLED),
    "all_attention": TargetSet((*_TEXT, "to_q", "to_k", "to_v", "to_out.0")),
}


def target_names(target: str, double_blocks: int) -> list[str]:
    """Canonical names of a target set: `transformer_blocks.{i}.attn.add_q_proj` and so on.

    Raises:
        ValueError: an unknown target set.
    """
    if target not in TARGETS:
        raise ValueError(
            f"Got target {target!r}, expected one of {', '.join(TARGETS)}. Choose from these."
        )
    chosen = TARGETS[target]
    blocks = (
        f"transformer_blocks.{i}.attn.{layer}"
        for i in range(double_blocks)
        for layer in chosen.block
    )
    return [*blocks, *chosen.outside]
