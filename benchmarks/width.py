"""Does the recipe's learning rate suit FLUX's own width? `python -m benchmarks.width`.

Trains a few steps as `fast` trains a phrase, on a Flux 3072 wide with random weights, one double
and one single block and few tokens: once with `rate_width`, by which a wide layer's A learns at a
share of the rate, and once without. The losses of every step go to a JSON file. Needs 4 GB; some
minutes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from .pack import import_pack

import_pack()

import torch
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.training.encoded_prompts import EncodedPrompts
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.nodes.host.session import training_session

from .full_width import CONFIG, build, encoded_plan
from .result_file import RESULTS, versions, write_result

RESULT = RESULTS / "width.json"
SMALL: dict[str, Any] = {
    **{"steps": 12, "batch": 1, "keep_per_step": 1, "trajectories": 1, "trajectory_steps": 4},
    **{"width": 64, "height": 64},
}
TEXT_LENGTH, THREADS = 32, 1


def main() -> None:
    torch.set_num_threads(THREADS)
    widths = (EraseConfig.from_recipe("fast").rate_width, 0)
    plan = encoded_plan(TEXT_LENGTH)
    rows = [losses_with(rate_width, build(1, 1, "float32"), plan) for rate_width in widths]
    settings = {name: getattr(config_with(0), name) for name in SMALL}
    head = {"command": "python -m benchmarks.width", "versions": versions(), "seeds": [0]}
    write_result(
        RESULT, {**head, "hidden": CONFIG["hidden_size"], "settings": settings, "rows": rows}
    )
    print(table(rows))


def config_with(rate_width: int) -> EraseConfig:
    """The steps that `fast` takes of a phrase, without its closed form."""
    phrase = EraseConfig.from_recipe("fast", rate_width=rate_width, **SMALL).after_solving()
    return replace(phrase, solver="budget", budget_rate=0.0)


def losses_with(rate_width: int, model: Any, plan: EncodedPrompts) -> dict[str, Any]:
    """Each loss of a MODEL, step by step."""
    config = config_with(rate_width)
    generator = torch.Generator().manual_seed(config.seed)
    with (
        torch.inference_mode(),
        training_session(model, guidance=config.guidance, checkpointing=False) as backend,
    ):
        history = train_erasure(backend, plan, config, generator=generator).history
    losses = {name: [round(value, 5) for value in values] for name, values in history.items()}
    return {"rate_width": rate_width, "learning_rate": config.learning_rate, **losses}


def table(rows: list[dict[str, Any]]) -> str:
    """Markdown: where each loss begins, its highest value, and where it ends."""
    lines = ["| rate_width | loss | first | highest | last |", "|---|---|---|---|---|"]
    for row in rows:
        for name in ("esd", "keep"):
            first, highest, last = row[name][0], max(row[name]), row[name][-1]
            lines.append(f"| {row['rate_width']} | {name} | {first} | {highest} | {last} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
