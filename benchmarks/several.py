"""Several concepts in one LoRA: `python -m benchmarks.several`.

Two, four and eight of the tiny world, or ten of the gallery (`--world gallery`). Erased together by
fast and by instant; and merged from what fast made of each alone: fused in closed form, as a sum,
and as a mean (the paper's way). Rows that the JSON has already are not made again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Sequence
from itertools import chain
from pathlib import Path
from statistics import fmean
from typing import Any

from .pack import import_pack

import_pack()

from eraseanything_pack.erase_engine.concepts.plan import ConceptPlan
from eraseanything_pack.erase_engine.concepts.planner import plan_together
from eraseanything_pack.erase_engine.concepts.request import ConceptRequest
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.lora.file import of_one_rank
from eraseanything_pack.erase_engine.lora.fusion import fuse, fusion_prompts
from eraseanything_pack.erase_engine.lora.merge import weighted_sum
from eraseanything_pack.erase_engine.training.loop import Erasure
from eraseanything_pack.tinyworld.draw import SIDE
from eraseanything_pack.tinyworld.judge import Verdict
from torch import Tensor

from .erasure.case import renamed
from .erasure.figures import percent
from .erasure.scenery import Scenery
from .result_file import RESULTS, read_result, versions, write_result
from .world import FIRST_SEED, WORLDS, World, option_of, stem_of

CONCEPTS = {  # and how many of them at once
    "tinyworld": (
        ("star", "striped", "red", "above", "heart", "dotted", "blue", "left of"),
        [2, 4, 8],
    ),
    "gallery": (
        ("cat", "rose", "guitar", "ink", "noto", "Mira", "Omar", "python", "tux", "left of"),
        [10],
    ),
}
WAYS = {
    "base": "base model",
    "fast": "together, by *fast*",
    "instant": "together, by *instant*",
    "fuse": "merged: *fuse*",
    "sum": "merged: *sum*",
    "mean": "mean of the LoRAs, as in the paper",
}
State = dict[str, Tensor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--world", choices=WORLDS, default="tinyworld", help="of pictures")
    parser.add_argument("--count", type=int, default=24, help="pictures for each concept")
    parser.add_argument("--counts", nargs="+", type=int, help="of concepts at once")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=WAYS)
    parser.add_argument("--out", type=Path, help="JSON; default: benchmarks/results/")
    options = parser.parse_args()
    family = WORLDS[options.world]
    concepts, counts = CONCEPTS[options.world]
    out = options.out or RESULTS / f"{stem_of(family, name='several')}.json"
    rows = (read_result(out) or {"rows": []})["rows"]
    several = Several(World(family), options.count)
    command = f"python -m benchmarks.several{option_of(family)} --count {options.count}"
    for count in options.counts or counts:
        for way in options.ways:
            if not any((row["concepts"], row["way"]) == (count, way) for row in rows):
                rows.append(several.measured(concepts[:count], way))
                print(json.dumps(rows[-1]), flush=True)
                result = {"command": command, "versions": versions(), "seed": 0, "rows": rows}
                write_result(out, result)
    print(table(rows))
    print(table([{**row, **row.get("judge2", {})} for row in rows]))


class Several:
    """Erasures of several concepts, and what a judge (its place in the world's) says of them."""

    def __init__(self, world: World, count: int) -> None:
        self.world, self.count, self.judge = world, count, 0
        self._apart: dict[str, Erasure] = {}
        self._plans: dict[tuple[str, ...], ConceptPlan] = {}
        self._base: dict[tuple[str, ...], tuple[Verdict, ...]] = {}
        self._erased: dict[tuple[str, ...], tuple[Verdict, ...]] = {}  # by the erasure at hand

    @property
    def scenery(self) -> Scenery:
        return self.world.scenery

    def measured(self, concepts: tuple[str, ...], way: str) -> dict[str, Any]:
        start = time.time()
        erasure = self.erasure(concepts, way)
        seconds = round(time.time() - start, 1)
        self._erased.clear()
        each = []
        for judge in range(len(self.world.judges)):
            self.judge = judge
            each.append(self.figures(concepts, erasure))
        return {
            "concepts": len(concepts),
            "way": way,
            "seconds": seconds,
            **each[0],
            "forwards": erasure.forwards if erasure else 0,
            "judge2": each[1],
        }

    def figures(self, concepts: tuple[str, ...], erasure: Erasure | None) -> dict[str, Any]:
        """Percentages; all but `acc_e` and `acc_ir` are of the base model's own rate.

        `ira` is the mean over all other words that are asked for, `worst_word` the least.
        """
        each = {name: self.acc_e(name, erasure) for name in concepts}
        replacement = self.replaced(concepts, erasure)
        words = self.words(concepts, erasure)
        worst = min(words, key=words.__getitem__)
        return {
            "acc_e": round(fmean(each.values()), 2),
            "acc_ir": self.acc_ir(concepts, erasure),
            "replaced": round(fmean(replacement.values()), 2),
            "ira": round(fmean(words.values()), 2),
            "worst_word": words[worst],
            "worst_word_name": worst,
            "each": each,
            "each_replaced": replacement,
        }

    def acc_e(self, concept: str, erasure: Erasure | None) -> float:
        prompts = self.scenery.prompts_with(concept, self.count)
        return percent(self.scenery.found(concept, prompts, self.look(prompts, erasure)))

    def acc_ir(self, concepts: Sequence[str], erasure: Erasure | None) -> float:
        """On prompts that name none of the concepts."""
        prompts = self.scenery.any_prompts(4 * self.count, accept=self.free_of(concepts))
        return percent(self.scenery.obeyed(prompts, self.look(prompts, erasure)))

    def replaced(self, concepts: tuple[str, ...], erasure: Erasure | None) -> dict[str, float]:
        """Of each concept, how often its anchor is in its place, of the rate when asked for it."""
        rates = {}
        for concept, anchor in self.anchors(concepts).items():
            others = [name for name in concepts if name != concept]
            prompts = self.replacement_prompts(concept, anchor, others)
            asked = [renamed(self.scenery, prompt, concept, anchor) for prompt in prompts]
            hits, own = (
                percent(self.scenery.replaced(concept, anchor, prompts, verdict))
                for verdict in (self.look(prompts, erasure), self.look(asked, None))
            )
            if own:
                rates[concept] = round(100 * hits / own, 2)
        return rates

    def words(self, concepts: tuple[str, ...], erasure: Erasure | None) -> dict[str, float]:
        """Of each other word, how often it is in its place, of the base model's own rate."""
        about = chain.from_iterable(self.scenery.other_words(name) for name in concepts)
        rates = {}
        for word in (word for word in dict.fromkeys(about) if word not in concepts):
            prompts = self.scenery.word_prompts(word, self.count, 0, self.free_of(concepts))
            hits, own = (
                percent(self.scenery.replaced(word, word, prompts, self.look(prompts, each)))
                for each in (erasure, None)
            )
            if own:
                rates[word] = round(100 * hits / own, 2)
        return rates

    def anchors(self, concepts: tuple[str, ...]) -> dict[str, str]:
        """What each of them becomes where all are erased together."""
        named = self.plan(concepts).anchor.split(", ")
        return {
            name: anchor.replace("nothing", "")
            for name, anchor in zip(concepts, named, strict=True)
        }

    def free_of(self, concepts: Sequence[str]) -> Callable[[Any], bool]:
        """Refuses prompts that show one of the concepts."""
        return lambda prompt: not any(self.scenery.shows(prompt.scene, one) for one in concepts)

    def replacement_prompts(self, concept: str, anchor: str, others: Sequence[str]) -> list[Any]:
        """Prompts that name no other of the concepts, and whose scene stays possible."""
        free = self.free_of(others)

        def accept(prompt: Any) -> bool:
            scene = self.scenery.exchanged(prompt.scene, concept, anchor)
            return free(prompt) and self.scenery.possible(scene)

        return self.scenery.prompts_with(concept, self.count, accept=accept)

    def plan(self, concepts: tuple[str, ...]) -> ConceptPlan:
        if concepts not in self._plans:
            kinds = [(name, self.scenery.node_kind(name)) for name in concepts]
            requests = [ConceptRequest(concept=name, kind=kind) for name, kind in kinds]  # type: ignore
            vocabulary = self.world.vocabulary
            self._plans[concepts] = plan_together(
                requests, self.world.encoder, vocabulary=vocabulary
            )
        return self._plans[concepts]

    def look(self, prompts: Sequence[Any], erasure: Erasure | None) -> Verdict:
        """The judge's verdict; pictures are drawn and looked at once."""
        texts = tuple(prompt.text for prompt in prompts)
        known = self._base if erasure is None else self._erased
        if texts not in known:
            known[texts] = self.world.look(self.world.draw(texts, FIRST_SEED, erasure))
        return known[texts][self.judge]

    def erasure(self, concepts: tuple[str, ...], way: str) -> Erasure | None:
        if way == "base":
            return None
        if way in ("fast", "instant"):
            return self.world.erase(self.plan(concepts), EraseConfig.from_recipe(way, seed=0))
        apart = [self.apart(name) for name in concepts]
        states = [erasure.state for erasure in apart]
        if way == "fuse":
            state = self.fused(concepts, states)
        else:
            share = {"sum": 1.0, "mean": 1 / len(states)}[way]
            state = weighted_sum(states, [share] * len(states))
        return Erasure(of_one_rank(state), {}, sum(erasure.forwards for erasure in apart))

    def apart(self, concept: str) -> Erasure:
        """The concept erased alone."""
        if concept not in self._apart:
            config = EraseConfig.from_recipe("fast", seed=0)
            self._apart[concept] = self.world.erase(self.world.plan(concept), config)
        return self._apart[concept]

    def fused(self, concepts: Sequence[str], states: Sequence[State]) -> State:
        """As Merge Erasure LoRAs does it."""
        prompts = fusion_prompts([[self.world.plan(name)] for name in concepts])
        conds = [self.world.encoder.encode(some) for some in prompts]
        given = states, [1.0] * len(states), conds
        with self.world.backend.session():
            return fuse(*given, backend=self.world.backend, latent_size=(SIDE, SIDE))


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown: what was measured of each number of concepts and each way."""
    known = {"acc_e": "Acc_e", "acc_ir": "Acc_ir", "replaced": "replaced", "ira": "IRA"}
    shown = {name: title for name, title in known.items() if all(name in row for row in rows)}
    titles = ["", "concepts", *shown.values(), "worst word", "forwards", "s"]
    lines = [titles, ["---"] * len(titles)]
    for row in sorted(rows, key=lambda row: row["concepts"]):
        figures = [f"{row[name]:.1f}" for name in shown]
        worst = f"{row['worst_word']:.1f} {row['worst_word_name']}"
        alone = row["way"] in ("fast", "instant")  # merged ones were made of others
        costs = f"{row['forwards']:,}", f"{row['seconds']:.0f}" if alone else ""
        lines.append([WAYS[row["way"]], str(row["concepts"]), *figures, worst, *costs])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
