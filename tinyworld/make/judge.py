"""Trains a judge on drawn pictures: `python scripts/make_weights.py judge` says how good it is.

`--network judge2` makes the second one, from other pictures: another network, trained apart.

Half of its pictures went through the autoencoder first, with some noise on the code, since the
pictures it has to judge come out of that decoder. Shapes stand a little askew, and a quarter of all
things have a shape that is none of the vocabulary's (`tinyworld.make.misshapen`).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random

import torch
from torch import Tensor, nn

from ..judge import NAMES
from ..judge_networks import HEADS, NETWORKS, NO_SHAPE, JudgeNetwork
from ..models import FLUX_LATENTS, TinyAutoencoder, load_weights, save_weights
from ..phrases import truth
from ..vocabulary import Scene
from .data import random_scenes, render_all
from .misshapen import Misshapen


def truth_of(scenes: list[Scene]) -> dict[str, Tensor]:
    """Class of each head for each scene; -1 for a slot that holds nothing."""
    rows = [dict.fromkeys(HEADS, -1) | truth(scene) for scene in scenes]
    return {name: torch.tensor([row[name] for row in rows]) for name in HEADS}


@torch.no_grad()
def round_trip(model: TinyAutoencoder, pictures: Tensor, noise: float) -> Tensor:
    """Pictures in 0..1 through the code and back, with `noise` (model space) on the code."""
    code = model.encode(pictures * 2 - 1)
    code = code + noise / FLUX_LATENTS.scale * torch.randn_like(code)
    return ((model.decode(code) + 1) / 2).clamp(0, 1)


@torch.no_grad()
def guesses(network: nn.Module, pictures: Tensor) -> dict[str, Tensor]:
    """The class that each head takes each picture for."""
    parts = [network(some) for some in pictures.split(100)]
    return {name: torch.cat([part[name] for part in parts]).argmax(-1) for name in HEADS}


def accuracy(network: nn.Module, pictures: Tensor, truth: dict[str, Tensor]) -> dict[str, float]:
    """Per cent right for each head, where there is something to see."""
    return {
        name: _percent((guess == truth[name])[truth[name] >= 0])
        for name, guess in guesses(network, pictures).items()
    }


def recall(network: nn.Module, pictures: Tensor, truth: dict[str, Tensor]) -> dict[str, float]:
    """Per cent of the things with a concept, in either slot, in which it is seen."""
    guess, out = guesses(network, pictures), {}
    for kind, names in NAMES.items():
        seen, there = (
            torch.cat([each[f"{kind}{slot}"] for slot in (0, 1)]) for each in (guess, truth)
        )
        for index, name in enumerate(names):
            out[name] = _percent((seen == index)[there == index])
    return out


def _percent(hits: Tensor) -> float:
    return round(100 * hits.float().mean().item(), 2)


def load_all_but_new_classes(network: nn.Module, weights: dict[str, Tensor]) -> None:
    """Loads weights of a judge that may know fewer classes."""
    state = network.state_dict()
    for name, old in weights.items():
        state[name][: len(old)] = old
    network.load_state_dict(state)


def with_misshapen(scenes: list[Scene], share: float, seed: int) -> list[Scene]:
    """The scenes with this share of all things given a shape that is none."""
    rng = Random(seed)
    return [
        replace(
            scene,
            things=tuple(
                replace(thing, shape=NO_SHAPE) if rng.random() < share else thing
                for thing in scene.things
            ),
        )
        for scene in scenes
    ]


def main(arguments: Sequence[str]) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=NETWORKS, default="judge")
    parser.add_argument("--steps", type=int, default=900)
    parser.add_argument("--pictures", type=int, default=8000)
    parser.add_argument("--misshapen", type=float, default=0.25, help="share of things of no shape")
    parser.add_argument("--seed", type=int, default=4)
    parser.add_argument("--resume", action="store_true", help="go on from the committed judge")
    options = parser.parse_args(arguments)
    torch.manual_seed(options.seed)
    autoencoder = TinyAutoencoder()
    autoencoder.load_state_dict(load_weights("vae"))
    network = NETWORKS[options.network]()
    if options.resume:
        load_all_but_new_classes(network, load_weights(options.network))
    taught = lesson(autoencoder, options.pictures, options.misshapen, options.seed)
    train(network, *taught, options.steps)
    figures = report(network.eval(), autoencoder)
    print(figures)
    metadata = {"made_by": "python scripts/make_weights.py judge", **vars(options), **figures}
    metadata |= {"torch": torch.__version__}
    print(save_weights(options.network, network.state_dict(), metadata))


def lesson(
    autoencoder: TinyAutoencoder, count: int, misshapen: float, seed: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """(N, 3, 128, 128) uint8 pictures, half of them coded and decoded, and what they show."""
    scenes = with_misshapen(random_scenes(count, 40 + seed), misshapen, 60 + seed)
    pictures = render_all(scenes, 50 + seed, distance=Misshapen(70 + seed))
    for some in pictures[: count // 2].split(200):
        noise = 0.15 * torch.rand(()).item()
        some.copy_((255 * round_trip(autoencoder, some.float() / 255, noise)).round())
    return pictures, truth_of(scenes)


def moved(pictures: Tensor) -> Tensor:
    """uint8 pictures as 0..1, a few pixels away."""
    shift = torch.randint(-3, 4, (2,)).tolist()
    return torch.roll(pictures.float() / 255, shift, (2, 3))


def train(
    network: nn.Module,
    lesson: Tensor,
    truth: dict[str, Tensor],
    steps: int,
    *,
    shown: Callable[[Tensor], Tensor] = moved,
) -> None:
    """In place, by cross entropy of all heads together; each batch of the lesson as `shown`."""
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, steps, pct_start=0.1)
    start = time.time()
    for step in range(steps):
        rows = torch.randint(0, len(lesson), (64,))
        answers = network(shown(lesson[rows]))
        losses = [
            nn.functional.cross_entropy(answer, truth[name][rows], ignore_index=-1)
            for name, answer in answers.items()
            if (truth[name][rows] >= 0).any()
        ]
        loss = torch.stack(losses).sum()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            print(f"{step} {time.time() - start:.0f}s {loss.item():.3f}", flush=True)


def report(network: JudgeNetwork, autoencoder: TinyAutoencoder) -> dict[str, dict[str, float]]:
    """Per cent right on pictures of the vocabulary, and of things that are none of its shapes."""
    unseen = random_scenes(2000, 30)
    drawn, truth = render_all(unseen, 31).float() / 255, truth_of(unseen)
    smeared = with_misshapen(unseen, 0.5, 32)
    smears = render_all(smeared, 33, distance=Misshapen(34)).float() / 255
    return {
        "drawn": accuracy(network, drawn, truth),
        "round_trip": accuracy(network, round_trip(autoencoder, drawn, 0.0), truth),
        "misshapen": accuracy(network, smears, truth_of(smeared)),
        "recall": recall(network, drawn, truth),
    }
