"""Which settings fit on a card, as the node estimates it: not measured there."""

from __future__ import annotations

from functools import cache
from itertools import product

from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.memory import GIGABYTE
from eraseanything_pack.nodes.training.memory_check import peak_of_step

from .full_width import DEPTH, SINGLES, build, encoded_plan

CARDS = (8, 12, 16, 24)  # gigabytes
PIXELS = (512, 768, 1024)
WEIGHTS = {"fp8": "float8_e4m3fn", "bf16": "bfloat16"}  # computed in bf16
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


@cache
def peak(weights: str, pixels: int, batch: int) -> int:
    """Bytes at the peak of a step on the whole of FLUX.1-dev."""
    sizes = {"width": pixels, "height": pixels, "batch": batch, "keep_per_step": batch}
    encoded = encoded_plan()
    return peak_of_step(
        build(DEPTH, SINGLES, WEIGHTS[weights], device="meta"),
        EraseConfig.from_recipe("fast", **sizes),
        encoded.longest,
        watched=encoded.tokens.all.shape[1],
    ).total
