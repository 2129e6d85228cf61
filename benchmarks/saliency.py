"""How well attention maps find the thing they are asked for: `python -m benchmarks.saliency`.

Drawn scenes go through the autoencoder, are noised to the sampler's own times, and the model looks
at them: so the thing's true mask is exact, which it would not be for a sampled picture. A map says
"here" where it is above the middle between its darkest and its brightest place; that is compared
with the mask as intersection over union, for both views, by the same rule. A thing is looked for by
its whole phrase ("red star"), and once more by its shape's word alone.

Then concepts are erased, by `fast` and where it is trained with L_attn, and sampled pictures tell
how much attention each word has left.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

from .pack import import_pack

import_pack()

import torch
from eraseanything_pack.erase_engine.attention.maps import attention_maps, maps_of_picture
from eraseanything_pack.erase_engine.attention.query import (
    VIEWS,
    AttentionQuery,
    View,
    default_blocks,
    located_words,
)
from eraseanything_pack.erase_engine.concepts.grammar import words_of
from eraseanything_pack.erase_engine.interfaces import FlowModel
from eraseanything_pack.erase_engine.training.loop import Erasure
from eraseanything_pack.tinyworld.draw import SIDE, start_noise
from eraseanything_pack.tinyworld.evaluate import prompts_with
from eraseanything_pack.tinyworld.pictures import render, signed_distance
from eraseanything_pack.tinyworld.vocabulary import (
    BACKGROUNDS,
    COLOUR_NAMES,
    RELATION_NAMES,
    SHAPE_NAMES,
    STYLE_NAMES,
    Scene,
    Thing,
    with_article,
)
from torch import Tensor

from .erasure.methods import config_of
from .result_file import RESULTS, versions, write_result
from .world import World

STEPS = 8  # times that a picture is looked at
PHRASE, SHAPE = "by its phrase", "by its shape's word"  # how a thing is looked for
LAYOUTS = {"one thing": None, "two things": RELATION_NAMES.index("left of")}


# --- where things are --------------------------------------------------------------------------


@dataclass(frozen=True)
class Example:
    """A drawn scene, a sentence that says all of it, and where each named shape is."""

    prompt: str
    shapes: tuple[str, ...]
    phrases: tuple[str, ...]  # of the same things: "red star"
    picture: Tensor  # (1, 3, 128, 128)
    masks: tuple[Tensor, ...]  # (128, 128) bool, one for each shape

    @classmethod
    def of(cls, scene: Scene, seed: int) -> Example:
        distances: list[Tensor] = []

        def distance(*where: Any) -> Tensor:
            distances.append(signed_distance(*where))
            return distances[-1]

        picture = render([scene], torch.Generator().manual_seed(seed), distance=distance)
        masks = tuple(each[0] < 0 for each in reversed(distances))  # the last layer comes first
        shapes = tuple(SHAPE_NAMES[thing.shape] for thing in scene.things)
        colours = (COLOUR_NAMES[thing.colour] for thing in scene.things)
        phrases = tuple(map(" ".join, zip(colours, shapes, strict=True)))
        return cls(_sentence(scene, phrases), shapes, phrases, picture, masks)

    def words(self, looked_for: str) -> tuple[str, ...]:
        """What each thing is looked for by."""
        return self.phrases if looked_for == PHRASE else self.shapes


def _sentence(scene: Scene, phrases: Sequence[str]) -> str:
    relation = "" if scene.relation is None else f" {RELATION_NAMES[scene.relation]} "
    things = relation.join(map(with_article, phrases))
    return f"{things} on a {BACKGROUNDS[scene.background]} background"


def examples(layout: str, count: int, seed: int) -> Iterator[Example]:
    """`count` scenes for each shape, which is their first thing."""
    rng, relation = Random(seed), LAYOUTS[layout]
    for number in range(count * len(SHAPE_NAMES)):
        shape = number % len(SHAPE_NAMES)
        colour, other = rng.sample(range(len(COLOUR_NAMES)), 2)
        second = rng.choice([each for each in range(len(SHAPE_NAMES)) if each != shape])
        things = (Thing(shape, colour, 0), Thing(second, other, 0))
        background = rng.randrange(len(BACKGROUNDS))
        shown = things if relation is not None else things[:1]
        yield Example.of(Scene(shown, relation, background), seed + number)


def overlaps(
    world: World, example: Example, words: Sequence[str], view: View, seed: int
) -> list[float]:
    """Intersection over union of map and mask, for each thing of one example."""
    latent = world.vae.first_stage_model.encode(2 * example.picture - 1)
    look = query_for(world, example.prompt, words, view)
    found = maps_of_picture(
        world.backend,
        world.encoder.encode([example.prompt]),
        look,
        latent=world.vae.first_stage_model.latents.inside(latent),
        noise=start_noise(1, seed),
        times=world.backend.timesteps(STEPS, SIDE, SIDE)[:-1],
    )
    return [overlap(each, mask) for each, mask in zip(found.maps, example.masks, strict=True)]


def query_for(world: World, prompt: str, words: Sequence[str], view: View) -> AttentionQuery:
    found = located_words(world.encoder, prompt, words, view=view, contrast=())
    return AttentionQuery(
        found, view, default_blocks(view, world.backend.joint_blocks, world.backend.blocks)
    )


def overlap(values: Tensor, mask: Tensor) -> float:
    """IoU of the mask and the places above the middle of the map, enlarged to the mask's size."""
    fine = torch.nn.functional.interpolate(values[None, None], mask.shape, mode="bilinear")[0, 0]
    here = fine > (fine.min() + fine.max()) / 2
    return ((here & mask).sum() / (here | mask).sum()).item()


def measure_overlaps(world: World, count: int, seed: int) -> dict[str, Any]:
    """Mean IoU by layout, what is looked for, view and shape."""
    result: dict[str, Any] = {}
    with torch.no_grad(), world.backend.session():
        for layout in LAYOUTS:
            scenes = list(examples(layout, count, seed))
            result[layout] = {
                looked_for: {
                    view: _by_shape(world, scenes, looked_for, view, seed) for view in VIEWS
                }
                for looked_for in (PHRASE, SHAPE)
            }
    return result


def _by_shape(
    world: World, scenes: Sequence[Example], looked_for: str, view: View, seed: int
) -> dict[str, Any]:
    found: dict[str, list[float]] = defaultdict(list)
    for number, example in enumerate(scenes):
        values = overlaps(world, example, example.words(looked_for), view, seed + number)
        for shape, value in zip(example.shapes, values, strict=True):
            found[shape].append(value)
    shapes = {shape: sum(found[shape]) / len(found[shape]) for shape in SHAPE_NAMES}
    rounded = {shape: round(value, 3) for shape, value in shapes.items()}
    return {"mean": round(sum(shapes.values()) / len(shapes), 3), "shapes": rounded}


# --- what an erasure does to attention ---------------------------------------------------------

ERASED = ("star", "striped", "dotted", "outlined", "red", "above")  # each kind, and hard styles
METHODS = ("fast", "trained, with L_attn")  # of the erasure benchmark
KINDS = {  # of the other words; those that no name here has are "more words": "on", "a picture of"
    **dict.fromkeys(("a", "an"), "articles"),
    **dict.fromkeys(COLOUR_NAMES, "colours"),
    **dict.fromkeys(SHAPE_NAMES, "shapes"),
    **dict.fromkeys(STYLE_NAMES, "styles"),
    **dict.fromkeys(" ".join(RELATION_NAMES).split(), "relations"),
    **dict.fromkeys((*BACKGROUNDS, "background"), "backgrounds"),
}


def masses(
    backend: FlowModel, world: World, prompt: str, concept: str, seed: int
) -> dict[str, float]:
    """The mean attention mass on the concept and on each other word, as one picture is sampled."""
    words = [concept, *(word for word in words_of(prompt) if word not in concept.split())]
    found = attention_maps(
        backend,
        world.encoder.encode([prompt, ""]),
        query_for(world, prompt, words, "training signal"),
        noise=start_noise(1, seed),
        times=backend.timesteps(STEPS, SIDE, SIDE),
    )
    return dict(zip(words, found.means, strict=True))


def sums_by_kind(
    backend: FlowModel, world: World, prompts: Sequence[str], concept: str, seed: int
) -> dict[str, float]:
    """The masses of all prompts, added up: the concept's, all other words', and each kind's."""
    sums: dict[str, float] = defaultdict(float)
    for number, prompt in enumerate(prompts):
        found = masses(backend, world, prompt, concept, seed + number)
        sums["concept"] += found.pop(concept)
        sums["other words"] += sum(found.values())
        for word, value in found.items():
            sums[KINDS.get(word, "more words")] += value
    return sums


def measure_erasure(
    world: World, erasure: Erasure, concept: str, count: int, seed: int
) -> dict[str, float]:
    """What is left of attention mass, after / before, over prompts that no training saw."""
    prompts = [prompt.text for prompt in prompts_with(concept, count, seed)]
    sums = []
    for state in (None, erasure):
        with torch.no_grad(), world.erased(state) as backend:
            sums.append(sums_by_kind(backend, world, prompts, concept, seed))
    before, after = sums
    return {kind: round(after[kind] / before[kind], 3) for kind in sorted(before)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=8, help="scenes for each shape and layout")
    parser.add_argument("--prompts", type=int, default=48, help="prompts with an erased concept")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--concepts", nargs="+", default=ERASED)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=RESULTS / "saliency.json")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    world = World()
    result = {
        "command": f"python -m benchmarks.saliency --count {options.count} --prompts "
        f"{options.prompts} --seed {options.seed} --concepts {' '.join(options.concepts)}",
        "seed": options.seed,
        "versions": versions(),
        "overlap": measure_overlaps(world, options.count, options.seed),
    }
    left = result["left of the attention"] = {method: {} for method in METHODS}
    for method, concept in product(METHODS, options.concepts):
        erasure = world.erase(world.plan(concept), config_of(method, 0))
        found = measure_erasure(world, erasure, concept, options.prompts, options.seed)
        print(method, concept, found, flush=True)
        left[method][concept] = found
    print(json.dumps(result, indent=1))
    write_result(options.out, result)


if __name__ == "__main__":
    main()
