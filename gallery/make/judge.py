"""Trains the gallery's judges: `python scripts/make_weights.py gallery.judge [--network judge2]`.

Half of what they learn from went through the autoencoder, with some noise on the code, since what
they judge comes out of that decoder. A quarter is misdrawn, and then is none of the known things.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable, Mapping, Sequence
from random import Random

import torch
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, grid_sample, interpolate

from ...tinyworld.judge_networks import JudgeNetwork, plain_network
from ...tinyworld.make.judge import round_trip, train
from ...tinyworld.models import TinyAutoencoder, autoencoder_of, load_weights, save_weights
from ..judge import HEADS, MAY_BE_NONE, FrozenFeatures, frozen_network, none_of
from ..vocabulary import FIELDS, HELD_OUT, WEIGHTS, Scene, random_scene
from .pictures import render_all

NOT_THERE = -1
MISDRAWN, HELD_OUT_SHARE = 0.25, 0.06
WARP = 0.16  # of half a picture
PLAIN = len(FIELDS["mark"]) - 1  # the mark of a carrier that has none


def judged_scenes(count: int, seed: int) -> list[Scene]:
    """Scenes of all kinds, held-out pairs too: a judge has to know what it may be shown."""
    rng, scenes = Random(seed), []
    for _ in range(count):
        scene = random_scene(rng)
        if scene.kind == "object" and rng.random() < HELD_OUT_SHARE:
            subject, artist = rng.choice(sorted(HELD_OUT))
            scene = Scene("object", scene.background, subject=subject, artist=artist)
        scenes.append(scene)
    return scenes


def truth_of(scenes: Sequence[Scene]) -> dict[str, Tensor]:
    """Class of each head for each scene; -1 where there is nothing to see."""
    return {
        name: torch.tensor(
            [words.index(getattr(one, name)) if getattr(one, name) else NOT_THERE for one in scenes]
        )
        for name, words in FIELDS.items()
    }


def warped(pictures: Tensor, _: TinyAutoencoder) -> Tensor:
    """Pulled about like rubber."""
    pull = interpolate(torch.randn(len(pictures), 2, 5, 5), 128, mode="bicubic") * WARP
    rows, columns = torch.meshgrid(*[torch.linspace(-1, 1, 128)] * 2, indexing="ij")
    places = torch.stack([columns, rows], dim=-1) + pull.permute(0, 2, 3, 1)
    return grid_sample(pictures, places, padding_mode="border", align_corners=True)


def blended(pictures: Tensor, autoencoder: TinyAutoencoder) -> Tensor:
    """Between two pictures, in the code."""
    code = autoencoder.encode(pictures * 2 - 1)
    return _decoded(autoencoder, (code + code.roll(1, 0)) / 2)


def coarse(pictures: Tensor, autoencoder: TinyAutoencoder) -> Tensor:
    """Blotches of the right colours."""
    code = autoencoder.encode(pictures * 2 - 1)
    low = interpolate(avg_pool2d(code, 4), 16, mode="bilinear")
    return _decoded(autoencoder, low + 0.2 * torch.randn_like(code))


def in_pieces(pictures: Tensor, autoencoder: TinyAutoencoder) -> Tensor:
    """Its parts in other places."""
    code = autoencoder.encode(pictures * 2 - 1)
    inner = code[:, :, 2:14, 2:14].unfold(2, 3, 3).unfold(3, 3, 3)  # (N, 16, 4, 4, 3, 3)
    mixed = inner.flatten(2, 3)[:, :, torch.randperm(16)].unflatten(2, (4, 4))
    moved = code.clone()
    moved[:, :, 2:14, 2:14] = mixed.permute(0, 1, 2, 4, 3, 5).reshape(*code.shape[:2], 12, 12)
    return _decoded(autoencoder, moved)


WAYS: tuple[Callable[[Tensor, TinyAutoencoder], Tensor], ...] = (warped, blended, coarse, in_pieces)


@torch.no_grad()
def misdrawn(pictures: Tensor, autoencoder: TinyAutoencoder) -> Tensor:
    """(N, 3, 128, 128) in 0..1, in batches of each way by turns: what they show is none."""
    parts = [WAYS[i % len(WAYS)](some, autoencoder) for i, some in enumerate(pictures.split(50))]
    return torch.cat(parts).clamp(0, 1)


def as_none(truth: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """What judges should say of misdrawn pictures: things are none, their ways are not asked."""
    asked = {name: torch.full_like(each, NOT_THERE) for name, each in truth.items()}
    asked |= {name: truth[name].clone() for name in ("kind", "background", "carrier")}
    for name in MAY_BE_NONE:
        there = truth[name] != NOT_THERE
        asked[name][there] = none_of(name)
    asked["mark"][truth["mark"] == PLAIN] = NOT_THERE
    return asked


def lesson(autoencoder: TinyAutoencoder, count: int, seed: int) -> tuple[Tensor, dict[str, Tensor]]:
    """(N, 3, 128, 128) uint8 pictures and what they show."""
    scenes = judged_scenes(count, seed)
    pictures, truth = render_all(scenes, seed + 1), truth_of(scenes)
    wrong, half = int(MISDRAWN * count), int((MISDRAWN + 1) / 2 * count)
    pictures[:wrong] = _bytes(misdrawn(pictures[:wrong].float() / 255, autoencoder))
    for some in pictures[wrong:half].split(100):
        noise = 0.3 * torch.rand(()).item()
        some.copy_(_bytes(round_trip(autoencoder, some.float() / 255, noise)))
    none = as_none({name: each[:wrong] for name, each in truth.items()})
    return pictures, {name: torch.cat([none[name], truth[name][wrong:]]) for name in truth}


@torch.no_grad()
def right(network: nn.Module, pictures: Tensor, truth: Mapping[str, Tensor]) -> dict[str, float]:
    """Per cent right for each head, where there is something to see; pictures in 0..1."""
    parts = [network(some) for some in pictures.split(100)]
    out = {}
    for name in HEADS:
        there = truth[name] != NOT_THERE
        said = torch.cat([part[name] for part in parts]).argmax(-1)
        if there.any():
            out[name] = round(100 * (said == truth[name])[there].float().mean().item(), 2)
    return out


def report(network: nn.Module, autoencoder: TinyAutoencoder) -> dict[str, dict[str, float]]:
    """Per cent right on drawings of other places, on round trips, and on misdrawn pictures."""
    scenes = judged_scenes(1200, 30)
    drawn, truth = render_all(scenes, 31).float() / 255, truth_of(scenes)
    return {
        "drawn": right(network, drawn, truth),
        "round_trip": right(network, round_trip(autoencoder, drawn, 0.0), truth),
        "misdrawn": right(network, misdrawn(drawn, autoencoder), as_none(truth)),
    }


def main(arguments: Sequence[str]) -> None:
    parser = ArgumentParser(description=__doc__)
    parser.add_argument("--network", choices=("judge", "judge2"), default="judge")
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--pictures", type=int, default=9000)
    parser.add_argument("--seed", type=int, default=4)
    options = parser.parse_args(arguments)
    torch.manual_seed(options.seed)
    autoencoder = autoencoder_of(load_weights("vae", WEIGHTS)).requires_grad_(False)
    pictures, truth = lesson(autoencoder, options.pictures, 100 * options.seed)
    if options.network == "judge":
        network = plain_network(HEADS)
        train(network, pictures, truth, options.steps)
        state = network.state_dict()
    else:
        network = frozen_network()
        train_heads(network, pictures, truth, options.steps)
        state = {k: v for k, v in network.state_dict().items() if ".net." not in k}
    figures = report(network.eval(), autoencoder)
    print(figures)
    made = {"made_by": "python scripts/make_weights.py gallery.judge", **vars(options), **figures}
    print(save_weights(options.network, state, made | {"torch": torch.__version__}, WEIGHTS))


@torch.no_grad()
def frozen_features(network: JudgeNetwork, pictures: Tensor) -> Tensor:
    """(N, 1280) of uint8 pictures."""
    features: FrozenFeatures = network.features[0]  # type: ignore[index, assignment]
    return torch.cat([features(some.float() / 255) for some in pictures.split(50)])


def train_heads(
    network: JudgeNetwork, pictures: Tensor, truth: dict[str, Tensor], steps: int
) -> None:
    """In place: the mean and spread of the features, then the heads on them."""
    features = frozen_features(network, pictures)
    norm: nn.BatchNorm1d = network.features[1].eval()  # type: ignore[index, operator]
    norm.running_mean.copy_(features.mean(0))  # type: ignore[union-attr]
    norm.running_var.copy_(features.var(0))  # type: ignore[union-attr]
    heads = _Heads(norm, network.heads)
    train(heads, features, truth, steps, shown=lambda features: features)


class _Heads(nn.Module):
    """The last layers of a judge, on features that are known already."""

    def __init__(self, norm: nn.Module, heads: nn.ModuleDict) -> None:
        super().__init__()
        self.norm, self.heads = norm, heads

    def forward(self, features: Tensor) -> dict[str, Tensor]:
        standardised = self.norm(features)
        return {name: head(standardised) for name, head in self.heads.items()}


def _decoded(autoencoder: TinyAutoencoder, code: Tensor) -> Tensor:
    return (autoencoder.decode(code) + 1) / 2


def _bytes(pictures: Tensor) -> Tensor:
    return (255 * pictures).round().to(torch.uint8)
