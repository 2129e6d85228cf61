"""How obedient a tiny model is: `python -m benchmarks.base`.

Draws prompts of all kinds and says, concept by concept, in how many pictures the judge finds what
was asked for. Every other figure of the tiny world has these as its ceiling.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from textwrap import wrap
from typing import Any

from torch import Tensor

from .pack import ROOT, import_pack

HELD_OUT = 24  # prompts of each pair of words that no training saw together
# Seeds of the captions, of so many pictures each, that a miniature's weights were trained on.
TAUGHT, PICTURES = {"Flux, gallery": (3, 4)}, 24_000
SHOWN, COLUMNS, LETTERS = 32, 8, 24  # pictures, in a row; letters in a line of a caption


def save_captioned(path: Path, pictures: Tensor, texts: list[str]) -> None:
    """Pictures (N, 3, height, width) in rows, each under its prompt."""
    from eraseanything_pack.erase_engine.contact_sheet import Row, contact_sheet, image_of

    cells = [image_of(picture.permute(1, 2, 0)) for picture in pictures]
    captions = ["\n".join(wrap(text, LETTERS)) for text in texts[: len(cells)]]
    starts = range(0, len(cells), COLUMNS)
    rows = [Row(cells[at : at + COLUMNS], captions[at : at + COLUMNS]) for at in starts]
    path.parent.mkdir(parents=True, exist_ok=True)
    contact_sheet(rows).save(path)


def looked_at(world: Any, prompts: list[Any], seed: int) -> tuple[Tensor, list[dict[str, Any]]]:
    """Pictures of the prompts, and each judge's figures."""
    pictures = world.draw([prompt.text for prompt in prompts], seed)
    return pictures, [figures(world, prompts, verdict) for verdict in world.look(pictures)]


def figures(world: Any, prompts: list[Any], verdict: Any) -> dict[str, Any]:
    """Per cent found of each word, and of everything that the prompts ask for."""
    shares = world.scenery.found_by_name(prompts, verdict)
    kept = world.scenery.obeyed(prompts, verdict).mean().item()
    found = {name: round(100 * share, 1) for name, share in shares.items()}
    return {"found": found, "everything": round(100 * kept, 2)}


def taught(family: str) -> set[str]:
    """All captions that the miniature was trained on, as far as their seeds are known."""
    from eraseanything_pack.tinyworld.load import MINIATURES
    from eraseanything_pack.tinyworld.make.flow import wordings
    from eraseanything_pack.tinyworld.make.worlds import world_of

    world = world_of(MINIATURES[family].world)
    seeds = TAUGHT.get(family, ())
    return {text for seed in seeds for texts in wordings(world, PICTURES, seed) for text in texts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--model", help="which miniature; default: the first of tinyworld/load.py")
    parser.add_argument("--out", type=Path, help="JSON; default: benchmarks/results/")
    parser.add_argument("--sheet", type=Path, help="also draw the first pictures as a PNG")
    options = parser.parse_args()
    import_pack()
    from .result_file import versions, write_result
    from .world import FAMILY, FIRST_SEED, World, stem_of

    family = options.model or FAMILY
    world = World(family)
    prompts = world.scenery.any_prompts(options.prompts, options.seed)
    pictures, judged = looked_at(world, prompts, FIRST_SEED + options.seed)
    if held_out := world.scenery.held_out_prompts(HELD_OUT, options.seed):
        _, apart = looked_at(world, held_out, FIRST_SEED + options.seed)
        for own, figures_apart in zip(judged, apart, strict=True):
            own["held_out"] = figures_apart
    if known := taught(family):
        new = world.scenery.any_prompts(
            options.prompts, options.seed, accept=lambda prompt: prompt.text not in known
        )
        _, unseen = looked_at(world, new, FIRST_SEED + options.seed)
        share = round(100 * sum(prompt.text in known for prompt in prompts) / len(prompts), 1)
        for own, figures_unseen in zip(judged, unseen, strict=True):
            own |= {"known_wordings": share, "unseen_wordings": figures_unseen}
    if options.sheet:
        save_captioned(options.sheet, pictures[:SHOWN], [prompt.text for prompt in prompts])
    first, second = judged
    found, kept = first["found"], first["everything"]
    for name, share in found.items():
        print(f"{name:10} {share:5.1f}%")
    print(f"everything asked for: {kept}%; worst concept: {min(found, key=found.__getitem__)}")
    out = options.out or ROOT / f"benchmarks/results/{stem_of(family, name='base')}.json"
    model = "" if family == FAMILY else f' --model "{family}"'
    asked = f"--prompts {options.prompts} --seed {options.seed}{model}"
    result = {
        "command": f"python -m benchmarks.base {asked}",
        "versions": versions(),
        **first,
        "judge2": second,
    }
    write_result(out, result)


if __name__ == "__main__":
    main()
