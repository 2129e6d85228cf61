"""Two, four and eight concepts in one LoRA: `python -m benchmarks.several`.

Trained together, and merged from LoRAs that were trained apart: as a sum, as a mean (the paper's
way) and fused in closed form. Rows that the JSON has already are not made again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from .pack import import_pack

import_pack()

import torch
from eraseanything_pack.erase_engine.concepts.plan import ConceptPlan
from eraseanything_pack.erase_engine.concepts.planner import plan_together
from eraseanything_pack.erase_engine.concepts.request import ConceptRequest
from eraseanything_pack.erase_engine.lora.fusion import fuse, fusion_prompts
from eraseanything_pack.erase_engine.lora.merge import weighted_sum
from eraseanything_pack.erase_engine.training.loop import Erasure
from eraseanything_pack.tinyworld.draw import SIDE
from eraseanything_pack.tinyworld.evaluate import (
    Prompt,
    any_prompts,
    found,
    obeyed,
    prompts_with,
    shows,
)
from eraseanything_pack.tinyworld.planning import TINY_WORLD
from torch import Tensor

from .erasure.figures import percent
from .erasure.methods import FAST, config_of
from .result_file import RESULTS, read_result, versions, write_result
from .world import FIRST_SEED, World, node_kind

EIGHT = ("star", "striped", "red", "above", "heart", "dotted", "blue", "left of")
COUNTS = (2, 4, 8)
WAYS = {
    "base": "base model",
    "together": "trained together (*join*)",
    "fuse": "merged: *fuse*",
    "sum": "merged: *sum*",
    "mean": "mean of the LoRAs, as in the paper",
}
RESULT = RESULTS / "several.json"
State = dict[str, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=24, help="pictures for each concept")
    parser.add_argument("--counts", nargs="+", type=int, default=COUNTS)
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    rows = (read_result(RESULT) or {"rows": []})["rows"]
    several = Several(World(), options.count)
    for count in options.counts:
        for way in options.ways:
            if not any((row["concepts"], row["way"]) == (count, way) for row in rows):
                rows.append(several.measured(EIGHT[:count], way))
                print(json.dumps(rows[-1]), flush=True)
                save(rows, options.count)
    print(table(rows))


class Several:
    """Erasures of several concepts, and what the judge says of them."""

    def __init__(self, world: World, count: int) -> None:
        self.world, self.count = world, count
        self._apart: dict[str, Erasure] = {}

    def measured(self, concepts: Sequence[str], way: str) -> dict[str, Any]:
        erasure = getattr(self, way)(concepts)
        each = {name: self.acc_e(name, erasure) for name in concepts}
        return {
            "concepts": len(concepts),
            "way": way,
            "acc_e": round(sum(each.values()) / len(each), 2),
            "acc_ir": self.acc_ir(concepts, erasure),
            "forwards": erasure.forwards if erasure else 0,
            "each": each,
        }

    def acc_e(self, concept: str, erasure: Erasure | None) -> float:
        prompts = prompts_with(concept, self.count)
        verdict = self.world.judge.look(self.draw(prompts, erasure))
        return percent(found(concept, prompts, verdict))

    def acc_ir(self, concepts: Sequence[str], erasure: Erasure | None) -> float:
        """On prompts that name none of the concepts."""
        free = [
            prompt
            for prompt in any_prompts(2000)
            if not any(shows(prompt.scene, concept) for concept in concepts)
        ]
        prompts = free[: 4 * self.count]
        return percent(obeyed(prompts, self.world.judge.look(self.draw(prompts, erasure))))

    def draw(self, prompts: Sequence[Prompt], erasure: Erasure | None) -> Tensor:
        return self.world.draw([prompt.text for prompt in prompts], FIRST_SEED, erasure)

    def base(self, concepts: Sequence[str]) -> None:
        return None

    def together(self, concepts: Sequence[str]) -> Erasure:
        """One training: for each two concepts as many steps and paths as one alone has."""
        requests = [
            ConceptRequest(concept=name, kind=node_kind(name))  # type: ignore[arg-type]
            for name in concepts
        ]
        plan = plan_together(requests, self.world.encoder, vocabulary=TINY_WORLD)
        times = len(concepts) // 2
        config = replace(
            FAST, steps=FAST.steps * times, trajectories=FAST.trajectories * times, seed=0
        )
        return self.world.erase(plan, config)

    def sum(self, concepts: Sequence[str]) -> Erasure:
        return self.merged(concepts, weighted_sum(self.states(concepts), [1.0] * len(concepts)))

    def mean(self, concepts: Sequence[str]) -> Erasure:
        count = len(concepts)
        return self.merged(concepts, weighted_sum(self.states(concepts), [1 / count] * count))

    def fuse(self, concepts: Sequence[str]) -> Erasure:
        """As Merge Erasure LoRAs does it."""
        states = self.states(concepts)
        prompts = fusion_prompts([[self.world.plan(name)] for name in concepts])
        conds = [self.world.encoder.encode(some) for some in prompts]
        strengths = [1.0] * len(states)
        with self.world.backend.session():
            state = fuse(
                states, strengths, conds, backend=self.world.backend, latent_size=(SIDE, SIDE)
            )
        return self.merged(concepts, state)

    def states(self, concepts: Sequence[str]) -> list[State]:
        for name in concepts:
            if name not in self._apart:
                plan: ConceptPlan = self.world.plan(name)
                self._apart[name] = self.world.erase(plan, config_of("fast", 0))
        return [self._apart[name].state for name in concepts]

    def merged(self, concepts: Sequence[str], state: State) -> Erasure:
        forwards = sum(self._apart[name].forwards for name in concepts)
        return Erasure(state, {}, forwards)


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: Acc_e and Acc_ir of each way that has been measured with every count."""
    counts = sorted({row["concepts"] for row in rows})
    titles = ["", *(f"{count}: {name}" for count in counts for name in ("Acc_e", "Acc_ir"))]
    titles.append(f"forwards for {counts[-1]}")
    lines = [titles, ["---"] * len(titles)]
    found = {(row["concepts"], row["way"]): row for row in rows}
    for way, name in WAYS.items():
        some = [found[count, way] for count in counts if (count, way) in found]
        cells = [f"{row[figure]:.1f}" for row in some for figure in ("acc_e", "acc_ir")]
        if len(some) == len(counts):
            lines.append([name, *cells, f"{some[-1]['forwards']:,}"])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def save(rows: list[dict[str, Any]], count: int) -> None:
    result = {
        "command": f"python -m benchmarks.several --count {count}",
        "versions": versions(),
        "seed": 0,
        "rows": rows,
    }
    write_result(RESULT, result)


if __name__ == "__main__":
    main()
