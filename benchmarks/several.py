"""Two, four and eight concepts in one LoRA: `python -m benchmarks.several`.

Erased together, trained as the recipe fast of version 0.1 did and by today's fast and instant; and
merged from LoRAs that were trained apart as in 0.1: as a sum, as a mean (the paper's way), and
fused in closed form. Rows that the JSON has already are not made again.
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
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.lora.fusion import fuse, fusion_prompts
from eraseanything_pack.erase_engine.lora.merge import weighted_sum
from eraseanything_pack.erase_engine.training.loop import Erasure
from eraseanything_pack.tinyworld.draw import SIDE
from eraseanything_pack.tinyworld.evaluate import (
    Accept,
    Prompt,
    any_prompts,
    found,
    obeyed,
    prompts_with,
    replaced,
    shows,
)
from eraseanything_pack.tinyworld.judge import Verdict
from eraseanything_pack.tinyworld.phrases import exchanged
from eraseanything_pack.tinyworld.planning import TINY_WORLD
from torch import Tensor

from .erasure.case import renamed
from .erasure.figures import percent
from .erasure.methods import config_of
from .erasure.prompts import other_words, word_prompts
from .erasure.scenery import TINY_SCENERY, is_possible, node_kind
from .result_file import RESULTS, read_result, versions, write_result
from .world import FIRST_SEED, World

EIGHT = ("star", "striped", "red", "above", "heart", "dotted", "blue", "left of")
COUNTS = (2, 4, 8)
WAYS = {
    "base": "base model",
    "together": "trained together (*join*)",
    "fast": "together, by *fast*",
    "instant": "together, by *instant*",
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
        self._plans: dict[tuple[str, ...], ConceptPlan] = {}
        self._base: dict[tuple[str, ...], Verdict] = {}

    def measured(self, concepts: Sequence[str], way: str) -> dict[str, Any]:
        erasure = getattr(self, way)(concepts)
        return {"concepts": len(concepts), "way": way, **self.figures(concepts, erasure)}

    def figures(self, concepts: Sequence[str], erasure: Erasure | None) -> dict[str, Any]:
        """Percentages; `replaced` and `worst_word` are of the base model's own rate."""
        each = {name: self.acc_e(name, erasure) for name in concepts}
        replacement = self.replaced(concepts, erasure)
        words = self.words(concepts, erasure)
        worst = min(words, key=words.__getitem__)
        return {
            "acc_e": round(sum(each.values()) / len(each), 2),
            "acc_ir": self.acc_ir(concepts, erasure),
            "replaced": round(sum(replacement.values()) / len(replacement), 2),
            "worst_word": words[worst],
            "worst_word_name": worst,
            "forwards": erasure.forwards if erasure else 0,
            "each": each,
            "each_replaced": replacement,
        }

    def acc_e(self, concept: str, erasure: Erasure | None) -> float:
        prompts = prompts_with(concept, self.count)
        return percent(found(concept, prompts, self.look(prompts, erasure)))

    def acc_ir(self, concepts: Sequence[str], erasure: Erasure | None) -> float:
        """On prompts that name none of the concepts."""
        prompts = any_prompts(4 * self.count, accept=free_of(concepts))
        return percent(obeyed(prompts, self.look(prompts, erasure)))

    def replaced(self, concepts: Sequence[str], erasure: Erasure | None) -> dict[str, float]:
        """Of each concept, how often its anchor is in its place, of the rate when asked for it."""
        rates = {}
        for concept, anchor in self.anchors(concepts).items():
            others = [name for name in concepts if name != concept]
            prompts = replacement_prompts(concept, anchor, others, self.count)
            asked = [renamed(TINY_SCENERY, prompt, concept, anchor) for prompt in prompts]
            hits, own = (
                percent(replaced(concept, anchor, prompts, verdict))
                for verdict in (self.look(prompts, erasure), self.look(asked, None))
            )
            rates[concept] = round(100 * hits / own, 2)
        return rates

    def words(self, concepts: Sequence[str], erasure: Erasure | None) -> dict[str, float]:
        """Of each other word, how often it is in its place, of the base model's own rate."""
        rates = {}
        for word in (word for word in other_words("") if word not in concepts):
            prompts = word_prompts(word, self.count, 0, free_of(concepts))
            hits, own = (
                percent(replaced(word, word, prompts, self.look(prompts, each)))
                for each in (erasure, None)
            )
            if own:
                rates[word] = round(100 * hits / own, 2)
        return rates

    def anchors(self, concepts: Sequence[str]) -> dict[str, str]:
        """What each of them becomes where all are erased together."""
        named = self.plan(concepts).anchor.split(", ")
        return {
            name: anchor.replace("nothing", "")
            for name, anchor in zip(concepts, named, strict=True)
        }

    def plan(self, concepts: Sequence[str]) -> ConceptPlan:
        if concepts not in self._plans:
            kinds = [(name, node_kind(name)) for name in concepts]
            requests = [ConceptRequest(concept=name, kind=kind) for name, kind in kinds]  # type: ignore
            plan = plan_together(requests, self.world.encoder, vocabulary=TINY_WORLD)
            self._plans[tuple(concepts)] = plan
        return self._plans[tuple(concepts)]

    def look(self, prompts: Sequence[Prompt], erasure: Erasure | None) -> Verdict:
        """The judge's verdict; the base model's pictures are drawn once."""
        texts = tuple(prompt.text for prompt in prompts)
        if erasure is None and texts in self._base:
            return self._base[texts]
        verdict = self.world.judge.look(self.world.draw(texts, FIRST_SEED, erasure))
        if erasure is None:
            self._base[texts] = verdict
        return verdict

    def base(self, concepts: Sequence[str]) -> None:
        return None

    def together(self, concepts: Sequence[str]) -> Erasure:
        """For each two concepts as many steps and paths as one alone has."""
        config, times = config_of("fast 0.1", 0), len(concepts) // 2
        more = {name: times * getattr(config, name) for name in ("steps", "trajectories")}
        return self.world.erase(self.plan(concepts), replace(config, **more))

    def fast(self, concepts: Sequence[str]) -> Erasure:
        return self.world.erase(self.plan(concepts), EraseConfig.from_recipe("fast", seed=0))

    def instant(self, concepts: Sequence[str]) -> Erasure:
        return self.world.erase(self.plan(concepts), EraseConfig.from_recipe("instant", seed=0))

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
                self._apart[name] = self.world.erase(plan, config_of("fast 0.1", 0))
        return [self._apart[name].state for name in concepts]

    def merged(self, concepts: Sequence[str], state: State) -> Erasure:
        forwards = sum(self._apart[name].forwards for name in concepts)
        return Erasure(state, {}, forwards)


def free_of(concepts: Sequence[str]) -> Accept:
    """Refuses prompts that show one of the concepts."""
    return lambda prompt: not any(shows(prompt.scene, concept) for concept in concepts)


def replacement_prompts(
    concept: str, anchor: str, others: Sequence[str], count: int
) -> list[Prompt]:
    """Prompts that name no other of the concepts, and whose scene stays possible."""
    free = free_of(others)

    def accept(prompt: Prompt) -> bool:
        scene = exchanged(prompt.scene, concept, anchor)
        return free(prompt) and is_possible(scene)

    return prompts_with(concept, count, accept=accept)


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
