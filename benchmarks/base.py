"""How obedient the tiny Flux is: `python -m benchmarks.base`.

Draws prompts of all kinds and says, concept by concept, in how many pictures the judge finds what
was asked for. Every other figure of the tiny world has these as its ceiling.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .pack import ROOT, import_pack


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=600)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=ROOT / "benchmarks/results/base.json")
    options = parser.parse_args()
    import_pack()
    import torch
    from eraseanything_pack.tinyworld.evaluate import any_prompts, found_by_name, obeyed

    from .world import FIRST_SEED, World

    world = World()
    prompts = any_prompts(options.prompts, options.seed)
    pictures = world.draw([prompt.text for prompt in prompts], FIRST_SEED + options.seed)
    verdict = world.judge.look(pictures)
    found = {name: round(100 * share, 1) for name, share in found_by_name(prompts, verdict).items()}
    kept = round(100 * obeyed(prompts, verdict).mean().item(), 2)
    for name, share in found.items():
        print(f"{name:10} {share:5.1f}%")
    print(f"everything asked for: {kept}%; worst concept: {min(found, key=found.__getitem__)}")
    result = {
        "command": f"python -m benchmarks.base --prompts {options.prompts} --seed {options.seed}",
        "versions": {"torch": torch.__version__},
        "found": found,
        "everything": kept,
    }
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
