"""A LoRA of one precision's weights on another's: `python -m benchmarks.precision`.

One concept is erased by the recipe `fast` from the miniature Flux stored in each of seven ways, and
each LoRA is applied, by the node's own code, to the model in each of them. Pictures are drawn in
each way's own numbers and compared with those of the same model without the LoRA. Some twenty
minutes of a core. Writes JSON and prints three tables.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from typing import Any

from .pack import import_pack

import_pack()

import torch
from eraseanything_pack.erase_engine.lora.file import prefixed
from eraseanything_pack.erase_engine.training.loop import Erasure
from eraseanything_pack.nodes.host.patch_lora import apply_lora
from eraseanything_pack.tinyworld.load import MINIATURES
from eraseanything_pack.tinyworld.models import load_weights

from .erasure.case import Case
from .erasure.figures import drift, percent
from .erasure.methods import config_of
from .erasure.quality import Look, replacement, worst_word
from .erasure.scenery import WORDS
from .result_file import RESULTS, versions, write_result
from .stored import STORED
from .world import FAMILY, FIRST_SEED, World

CONCEPT, SEED, COUNT = "star", 0, 12
RESULT = RESULTS / "precision.json"
Row = dict[str, Any]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--concept", default=CONCEPT, choices=WORDS, help=f"default: {CONCEPT}")
    parser.add_argument("--count", type=int, default=COUNT, help="pictures of each kind of prompt")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    cases = cases_of(options.concept, options.count)
    erasures = {
        name: case.world.erase(case.plan, config_of("fast", SEED)) for name, case in cases.items()
    }
    rows = []
    for applied, case in cases.items():
        for trained, erasure in erasures.items():
            rows.append({"trained": trained, "applied": applied, **measured(case, erasure)})
            print(json.dumps(rows[-1]), flush=True)
    result = {
        "command": f"python -m benchmarks.precision --concept {options.concept} --count "
        f"{options.count}",
        "versions": versions(),
        "seed": SEED,
        "count": options.count,
        "rows": rows,
    }
    write_result(RESULT, result)
    print("\n\n".join(tables(rows)))


def cases_of(concept: str, count: int) -> dict[str, Case]:
    """The concept's test in the world of each way to store the same weights."""
    world, state = World(quickly=False), load_weights(MINIATURES[FAMILY].weights)
    return {
        name: Case(world.of(make(state)), concept, SEED, count) for name, make in STORED.items()
    }


def measured(case: Case, erasure: Erasure) -> Row:
    """Figures by the first judge, in percent of the model's own rate but for `found`.

    The worst word is one of the concept's own kind.
    """
    model, _ = apply_lora(case.world.model, prefixed(erasure.state), 1.0, name="the erasure")
    applied = case.world.of(model)
    kinds = ("named", "others", *(f"word {word}" for word in siblings(case)))
    texts = {kind: [prompt.text for prompt in case.prompts[kind]] for kind in kinds}
    pictures = {kind: applied.draw(some, FIRST_SEED + SEED) for kind, some in texts.items()}
    look = Look.at(case, pictures)[0]
    return {
        "found": percent(look.found("named")),
        **replacement(look),
        **worst_word(look),
        "drift": round(drift(pictures["others"], case.draw("others", None)), 6),
    }


def siblings(case: Case) -> list[str]:
    """The other words of the concept's kind."""
    kind_of = case.scenery.kind_of
    return [word for word in case.words if kind_of(word) == kind_of(case.concept)]


def tables(rows: Sequence[Row]) -> list[str]:
    """Found and replaced, and the worst word, as Markdown: trained down, applied across."""
    names = list(dict.fromkeys(row["applied"] for row in rows))
    cells = {(row["trained"], row["applied"]): row for row in rows}

    def table(title: str, cell: Callable[[Row], str]) -> str:
        lines = [f"| {title} | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
        for trained in names:
            found = [cell(cells[trained, applied]) for applied in names]
            lines.append(f"| **{trained}** | {' | '.join(found)} |")
        return "\n".join(lines)

    return [
        table("found, replaced", lambda row: f"{row['found']:.0f}, {row['replaced_two']:.0f}"),
        table("worst word", lambda row: f"{row['worst_word']:.0f}"),
        table("drift, 1e-4", lambda row: f"{1e4 * row['drift']:.1f}"),
    ]


if __name__ == "__main__":
    main()
