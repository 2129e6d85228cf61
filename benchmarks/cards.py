"""Which settings fit on a card, by `erase_engine.preflight`: estimated, not measured there."""

from __future__ import annotations

from itertools import product

from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.memory import (
    GIGABYTE,
    TrainingSize,
    estimate_memory,
    tokens_of,
)

CARDS = (8, 12, 16, 24)  # gigabytes
PIXELS = (512, 768, 1024)
WEIGHTS = {"fp8": 1, "bf16": 2}  # bytes of a weight; computed in bf16
BATCHES = (1, 2, 4, 8)
RESERVED = GIGABYTE  # for CUDA itself, the picture on the screen and what does not fit together


def cards_table() -> str:
    """Markdown: the largest batch that fits wholly on each card, checkpointed, 256 text tokens."""
    cases = list(product(WEIGHTS, PIXELS))
    head = ["card", *(f"{weights}, {pixels} px" for weights, pixels in cases)]
    lines = [head, ["---", *("---:" for _ in cases)]]
    lines += [[f"{card} GB", *(largest(card, *case) for case in cases)] for card in CARDS]
    lines.append(["peak, batch 1", *(f"{peak(*case, 1) / GIGABYTE:.1f} GB" for case in cases)])
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    note = (
        "Largest batch (of 1, 2, 4, 8) that fits wholly on the card; – does not, and works only "
        "where the host offloads weights. Estimated from sizes and from measurements on a CPU, "
        "with 1 GB of the card left free; not measured on these cards."
    )
    return f"{table}\n\n{note}"


def largest(card: int, weights: str, pixels: int) -> str:
    room = card * GIGABYTE - RESERVED
    fitting = [batch for batch in BATCHES if peak(weights, pixels, batch) <= room]
    return str(max(fitting)) if fitting else "–"


def peak(weights: str, pixels: int, batch: int) -> int:
    """Bytes at the peak of a step on the whole of FLUX.1-dev."""
    setting = TrainingSize(
        depth=19,
        singles=38,
        image_tokens=tokens_of(pixels, pixels),
        text_tokens=256,
        batch=batch,
        weight_bytes=WEIGHTS[weights],
        compute_bytes=2,
        targets=EraseConfig.from_recipe("fast").lora.targets,
    )
    return estimate_memory(setting).total
