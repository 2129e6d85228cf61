"""Which settings fit on a card, as the node estimates it: not measured there."""

from __future__ import annotations

from functools import cache
from itertools import product

import torch
from eraseanything_pack.erase_engine.closed_form.text_rows import Features, TextRows
from eraseanything_pack.erase_engine.concepts.planner import plan_concept
from eraseanything_pack.erase_engine.concepts.request import ConceptRequest
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.memory import GIGABYTE, MemoryEstimate
from eraseanything_pack.erase_engine.training.cost import weight_reads
from eraseanything_pack.erase_engine.training.encoded_prompts import encode_prompts, needed_by
from eraseanything_pack.nodes.training.memory_check import peak_of_step

from .full_width import CONFIG, DEPTH, SINGLES, build, encoded_plan
from .world import World

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
    lines.append(
        ["peak, batch 1", *(f"{peak(*case, 1).total / GIGABYTE:.1f} GB" for case in cases)]
    )
    table = "\n".join("| " + " | ".join(line) + " |" for line in lines)
    note = (
        "Largest batch (of 1, 2, 4, 8) that fits wholly on the card; or with batch 1, what of the "
        "weights finds no room, so that the host keeps it in the computer's memory and copies it "
        f"for each use: {reads(solved=True):,} times for a word, {reads(solved=False):,} for a "
        "phrase. A dash: one step alone finds no room. Estimated from sizes and from measurements "
        "on a CPU, with 1 GB of the card left free; not measured on these cards."
    )
    return f"{table}\n\n{note}"


def largest(card: int, weights: str, pixels: int) -> str:
    room = card * GIGABYTE - RESERVED
    fitting = [batch for batch in BATCHES if peak(weights, pixels, batch).total <= room]
    if fitting:
        return str(max(fitting))
    memory = peak(weights, pixels, 1)
    outside = memory.total - room
    return f"{outside / GIGABYTE:.1f} GB out" if memory.beside_weights <= room else "–"


def reads(*, solved: bool) -> int:
    """How often a training with batch 1 reads the weights, of a word or of a phrase."""
    config = EraseConfig.from_recipe("fast", batch=1).after_solving(solved=solved)
    return weight_reads(encoded_plan(), config, guided=False)


@cache
def peak(weights: str, pixels: int, batch: int) -> MemoryEstimate:
    """Of a step on the whole of FLUX.1-dev."""
    sizes = {"width": pixels, "height": pixels, "batch": batch, "keep_per_step": batch}
    encoded = encoded_plan()
    return peak_of_step(
        build(DEPTH, SINGLES, WEIGHTS[weights], device="meta"),
        EraseConfig.from_recipe("fast", **sizes),
        encoded.longest,
        watched=encoded.tokens.all.shape[1],
        rows=everyday_rows(),
    )


@cache
def everyday_rows() -> TextRows:
    """Sizes of the text that an everyday word's plan is solved on, at FLUX.1's widths."""
    encoder, config = World().encoder, EraseConfig.from_recipe("fast")
    plan = plan_concept(ConceptRequest(concept="dog", kind="object"), encoder)
    rows = encode_prompts(plan, encoder, **needed_by(config)).entrance
    assert rows is not None and rows.pooled is not None
    return TextRows(
        as_wide(rows.text, CONFIG["context_in_dim"]), as_wide(rows.pooled, CONFIG["vec_in_dim"])
    )


def as_wide(rows: Features, width: int) -> Features:
    sizes = {name: (len(each), *([width] * (each.ndim - 1))) for name, each in vars(rows).items()}
    return Features(**{name: torch.empty(size, device="meta") for name, size in sizes.items()})
