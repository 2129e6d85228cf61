"""Is a negative prompt not enough? `python -m benchmarks.negative`.

Two concepts on the miniature that samplers guide, SD3.5: the base model, the same with the concept
as its negative prompt at two scales of guidance, and the erasure by the recipe fast. The judge, the
prompts and the noise are those of `benchmarks.erasure`. Some minutes of one core. Writes JSON, and
a sheet of pictures, docs/negative.png.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from typing import Any

from .pack import ROOT, import_pack

import_pack()

import torch
from eraseanything_pack.erase_engine.contact_sheet import Row, contact_sheet
from eraseanything_pack.tinyworld.draw import draw_conditioned, start_noise
from eraseanything_pack.tinyworld.evaluate import found, obeyed
from eraseanything_pack.tinyworld.load import MINIATURES
from PIL import Image
from torch import Tensor

from .erasure.case import Case, Pictures
from .erasure.figures import drift, percent
from .erasure.methods import config_of
from .erasure.sheet import row_of
from .result_file import RESULTS, read_result, versions, write_result
from .world import FIRST_SEED, STEPS, World, quickly

FAMILY, SEED, COUNT = "SD3.5", 0, 24
CONCEPTS = ("star", "striped")
CFG = MINIATURES[FAMILY].cfg
STRONG = 2 * CFG
WAYS = {
    "base": "nothing",
    "negative": f"negative prompt, cfg {CFG:g}",
    "strong": f"negative prompt, cfg {STRONG:g}",
    "erased": "erasure",
}
KINDS = ("named", "synonyms", "others")
RESULT, SHEET = RESULTS / "negative.json", ROOT / "docs" / "negative.png"
SHOWN, CELL, COLOURS = (0, 1, 9, 12, 15, 20), 96, 128  # prompts in a row; pixels; of the palette


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    torch.set_num_threads(parser.parse_args().threads)
    world, rows, sheet = World(FAMILY), [], []
    for concept in CONCEPTS:
        case = Case(world, concept, SEED, COUNT)
        for way, title in WAYS.items():
            pictures = drawn(case, way)
            rows.append({"concept": concept, "way": way, **figures(case, pictures)})
            sheet.append(row_of(f"{concept}: {title}", pictures["named"][list(SHOWN)]))
            print(json.dumps(rows[-1]), flush=True)
    result = {
        "command": "python -m benchmarks.negative",
        "versions": versions(),
        "model": FAMILY,
        "seed": SEED,
        "count": COUNT,
        "rows": rows,
    }
    write_result(RESULT, result)
    save(sheet)
    print(table(rows))


def save(sheet: list[Row]) -> None:
    """In few colours, as a small file."""
    picture = contact_sheet(sheet, cell=CELL)
    picture.quantize(COLOURS, method=Image.Quantize.FASTOCTREE).save(SHEET, optimize=True)


def figures(case: Case, pictures: Pictures) -> dict[str, float]:
    """Percentages of pictures by the first judge; `changed` is the drift of other prompts."""
    seen = {kind: case.world.judge.look(some) for kind, some in pictures.items()}
    prompts = case.prompts
    return {
        **{name: percent(found(case.concept, prompts[name], seen[name])) for name in KINDS[:2]},
        "others": percent(obeyed(prompts["others"], seen["others"])),
        "changed": round(drift(pictures["others"], case.draw("others", None)), 6),
    }


def drawn(case: Case, way: str) -> Pictures:
    """Pictures of every kind of prompt; the noise of a prompt is the same in every way."""
    if way in ("negative", "strong"):
        avoided = Avoided(case.world, case.concept, CFG if way == "negative" else STRONG)
        return {
            kind: avoided.draw([prompt.text for prompt in case.prompts[kind]], case.seed)
            for kind in KINDS
        }
    config = config_of("fast", case.seed)
    erasure = case.world.erase(case.plan, config) if way == "erased" else None
    return {kind: case.draw(kind, erasure) for kind in KINDS}


@dataclass(frozen=True)
class Avoided:
    """A world drawn with a negative prompt, at a scale of guidance."""

    world: World
    negative: str
    cfg: float

    def draw(self, texts: list[str], seed: int) -> Tensor:
        """(N, 3, 128, 128) in 0..1, one for each text."""
        backend, encoder = self.world.backend, self.world.encoder
        usual, backend.cfg = backend.cfg, self.cfg
        try:
            with backend.session(), quickly():
                return draw_conditioned(
                    backend,
                    self.world.vae,
                    encoder.encode(texts),
                    start_noise(len(texts), FIRST_SEED + seed),
                    encoder.encode([self.negative]).prompts[0],
                    steps=STEPS,
                ).float()
        finally:
            backend.cfg = usual


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: the two figures that artists ask for, means over concepts."""
    lines = ["| what is done | the concept is still drawn | everything else |", "|---|---|---|"]
    for way, title in WAYS.items():
        own = [row for row in rows if row["way"] == way]
        still, rest = (sum(row[name] for row in own) / len(own) for name in ("named", "others"))
        lines.append(f"| {title} | {still:.0f}% | {rest:.0f}% |")
    return "\n".join(lines)


def committed() -> list[dict[str, Any]]:
    result = read_result(RESULT)
    assert result is not None
    return result["rows"]


if __name__ == "__main__":
    main()
