"""Is a negative prompt not enough? `python -m benchmarks.negative`.

Two concepts on the miniature that samplers guide, SD3.5: the base model, the same with the concept
as its negative prompt at two scales of guidance, and the erasure by the recipe fast. `--model Flux`
is the same where samplers guide nothing. There a negative prompt needs ComfyUI's node
Normalized Attention Guidance (NAG), which newer ComfyUIs bring: COMFYUI_PATH names one.

The judge, the prompts and the noise are those of `benchmarks.erasure`. Some minutes of one core.
Writes JSON, and a sheet of pictures, docs/negative.png or docs/nag.png.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, Protocol

from .pack import ROOT, import_pack

import_pack()

import comfy.sample
import comfyui_version
import node_helpers
import torch
from eraseanything_pack.erase_engine.contact_sheet import Row, contact_sheet
from eraseanything_pack.tinyworld.draw import draw_conditioned, start_noise
from eraseanything_pack.tinyworld.evaluate import found, obeyed
from eraseanything_pack.tinyworld.load import DISTILLED, MINIATURES
from PIL import Image
from torch import Tensor

from .erasure.case import Case, Pictures
from .erasure.figures import drift, percent
from .erasure.methods import config_of
from .erasure.sheet import row_of
from .result_file import RESULTS, read_result, versions, write_result
from .world import FAMILY, FIRST_SEED, STEPS, World, quickly

GUIDED, UNGUIDED = "SD3.5", FAMILY
SEED, COUNT = 0, 24
CONCEPTS = ("star", "striped")
CFG = MINIATURES[GUIDED].cfg
STRONG = 2 * CFG
WAYS = {
    GUIDED: {
        "base": "nothing",
        "negative": f"negative prompt, cfg {CFG:g}",
        "strong": f"negative prompt, cfg {STRONG:g}",
        "erased": "erasure",
    },
    UNGUIDED: {
        "base": "nothing",
        "nag": "negative prompt, NAG as its node comes",
        "nag strong": "negative prompt, NAG stronger",
        "erased": "erasure",
    },
}
KINDS = ("named", "synonyms", "others")
RESULT = RESULTS / "negative.json"
SHEETS = {GUIDED: ROOT / "docs" / "negative.png", UNGUIDED: ROOT / "docs" / "nag.png"}
SHOWN, CELL, COLOURS = (0, 1, 9, 12, 15, 20), 96, 128  # prompts in a row; pixels; of the palette


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", choices=WAYS, default=GUIDED, help="which miniature")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.model == UNGUIDED:
        require_nag(parser.error)
    world, rows, sheet = World(options.model), [], []
    of = {"model": options.model, "comfyui": comfyui_version.__version__}
    for concept in CONCEPTS:
        case = Case(world, concept, SEED, COUNT)
        for way, title in WAYS[options.model].items():
            pictures = drawn(case, way)
            rows.append({**of, "concept": concept, "way": way, **figures(case, pictures)})
            sheet.append(row_of(f"{concept}: {title}", pictures["named"][list(SHOWN)]))
            print(json.dumps(rows[-1]), flush=True)
    rows += [row for row in committed() if row["model"] != options.model]
    result = {
        "command": f"python -m benchmarks.negative, and with --model {UNGUIDED}",
        "versions": versions(),
        "seed": SEED,
        "count": COUNT,
        "rows": sorted(rows, key=lambda row: list(WAYS).index(row["model"])),
    }
    write_result(RESULT, result)
    save(sheet, SHEETS[options.model])
    print(table(rows))


def require_nag(error: Callable[[str], Any]) -> None:
    """Calls `error` where this ComfyUI has no such node."""
    try:
        import comfy_extras.nodes_nag  # noqa: F401
    except ImportError:
        error(
            f"got ComfyUI {comfyui_version.__version__}, which has no node Normalized Attention "
            "Guidance; set COMFYUI_PATH to 0.33.0 or newer."
        )


def save(sheet: list[Row], path: Path) -> None:
    """In few colours, as a small file."""
    picture = contact_sheet(sheet, cell=CELL)
    picture.quantize(COLOURS, method=Image.Quantize.FASTOCTREE).save(path, optimize=True)


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
    if helper := helpers(case.world, case.concept).get(way):
        return {
            kind: helper.draw([prompt.text for prompt in case.prompts[kind]], case.seed)
            for kind in KINDS
        }
    config = config_of("fast", case.seed)
    erasure = case.world.erase(case.plan, config) if way == "erased" else None
    return {kind: case.draw(kind, erasure) for kind in KINDS}


class Draws(Protocol):
    def draw(self, texts: list[str], seed: int) -> Tensor:
        """(N, 3, 128, 128) in 0..1, one for each text."""
        ...


def helpers(world: World, concept: str) -> Mapping[str, Draws]:
    """What artists use instead of an erasure, by the name of the way."""
    return {
        "negative": Avoided(world, concept, CFG),
        "strong": Avoided(world, concept, STRONG),
        "nag": Nag(world, concept),
        "nag strong": Nag(world, concept, scale=10.0, tau=2.5),
    }


@dataclass(frozen=True)
class Avoided:
    """A world drawn with a negative prompt, at a scale of guidance."""

    world: World
    negative: str
    cfg: float

    def draw(self, texts: list[str], seed: int) -> Tensor:
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


@dataclass(frozen=True)
class Nag:
    """The same at cfg 1, by the host's node and its sampler; the numbers are the node's own.

    Normalized Attention Guidance (arXiv 2505.21179).
    """

    world: World
    negative: str
    scale: float = 5.0
    alpha: float = 0.5
    tau: float = 1.5

    def draw(self, texts: list[str], seed: int) -> Tensor:
        from comfy_extras.nodes_nag import NAGuidance

        world = self.world
        model = NAGuidance.execute(world.model, self.scale, self.alpha, self.tau).result[0]
        noise, avoided = start_noise(len(texts), FIRST_SEED + seed), self.encoded(self.negative)
        drawn = []
        for text, own in zip(texts, noise.split(1), strict=True):
            given = self.encoded(text), avoided, torch.zeros_like(own)
            with quickly():
                latents = comfy.sample.sample(
                    model, own, STEPS, 1.0, "euler", "simple", *given, seed=seed, disable_pbar=True
                )
                drawn.append(world.vae.decode(latents).movedim(-1, 1).float())
        return torch.cat(drawn)

    def encoded(self, text: str) -> Any:
        clip = self.world.clip
        cond = clip.encode_from_tokens_scheduled(clip.tokenize(text))
        return node_helpers.conditioning_set_values(cond, {"guidance": DISTILLED})


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: the two figures that artists ask for, means over concepts."""
    lines = [
        "| miniature | what is done | the concept is still drawn | everything else |",
        "|---|---|---|---|",
    ]
    for model, ways in WAYS.items():
        for way, title in ways.items():
            own = [row for row in rows if (row["model"], row["way"]) == (model, way)]
            means = [fmean(row[name] for row in own) for name in ("named", "others")]
            still, rest = (f"{mean:.0f}%" for mean in means)
            lines.append(f"| {model} | {title} | {still} | {rest} |")
    return "\n".join(lines)


def committed() -> list[dict[str, Any]]:
    result = read_result(RESULT)
    assert result is not None
    return result["rows"]


if __name__ == "__main__":
    main()
