"""Draws scenes as 128 x 128 pictures with signed distance functions, from a seed.

A thing is a shape (a signed distance, in units of its radius) filled by a style. Places and sizes
are all but fixed for each layout: the tiny model has to learn what words mean, not where to look.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .vocabulary import BACKGROUNDS, COLOUR_NAMES, RELATION_NAMES, SHAPE_NAMES, STYLE_NAMES, Scene

SIZE = 128  # pixels
JITTER = 2.0  # pixels, in each direction
SIZE_JITTER = 0.04  # of the radius
SHADE_JITTER = 0.03  # of full brightness

# Where (x, y) the first and the second thing stand, and their radii, in pixels.
SINGLE = (64.0, 64.0, 42.0)
PLACES: dict[str, tuple[tuple[float, float, float], tuple[float, float, float]]] = {
    "above": ((64.0, 34.0, 26.0), (64.0, 94.0, 26.0)),
    "below": ((64.0, 94.0, 26.0), (64.0, 34.0, 26.0)),
    "left of": ((34.0, 64.0, 26.0), (94.0, 64.0, 26.0)),
    "right of": ((94.0, 64.0, 26.0), (34.0, 64.0, 26.0)),
    "inside": ((64.0, 64.0, 20.0), (64.0, 64.0, 56.0)),
}
PALETTE = {
    "red": (0.90, 0.10, 0.10),
    "blue": (0.12, 0.25, 0.92),
    "green": (0.05, 0.68, 0.15),
    "yellow": (0.98, 0.88, 0.08),
    "orange": (1.00, 0.50, 0.04),
    "purple": (0.52, 0.10, 0.72),
    "pink": (1.00, 0.55, 0.78),
    "cyan": (0.08, 0.82, 0.90),
    "white": (0.97, 0.97, 0.97),
    "black": (0.04, 0.04, 0.04),
    "gray": (0.55, 0.55, 0.55),
    "brown": (0.42, 0.27, 0.14),
}
HALO = 3.0  # pixels of background around a thing that lies on another


def _star(u: Tensor, v: Tensor) -> Tensor:
    radius = torch.hypot(u, v)
    sector = math.tau / 5
    angle = (torch.remainder(torch.atan2(u, -v) + sector / 2, sector) - sector / 2).abs()
    inner = 0.43 * math.cos(sector / 2), 0.43 * math.sin(sector / 2)
    normal_x, normal_y = inner[1], 1 - inner[0]
    length = math.hypot(normal_x, normal_y)
    x, y = radius * angle.cos() - 1, radius * angle.sin()
    return (x * normal_x + y * normal_y) / length


def _heart(u: Tensor, v: Tensor) -> Tensor:
    tip = (u.abs() + (v - 0.1).abs() - 0.8) / math.sqrt(2)
    lobes = torch.hypot(u.abs() - 0.4, v + 0.3) - 0.566
    return torch.minimum(tip, lobes)


def _cross(u: Tensor, v: Tensor) -> Tensor:
    bar = torch.maximum(u.abs() - 0.92, v.abs() - 0.3)
    post = torch.maximum(u.abs() - 0.3, v.abs() - 0.92)
    return torch.minimum(bar, post)


# Signed distance to each shape, negative inside, in units of the radius; u right, v down.
DISTANCE: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "circle": lambda u, v: torch.hypot(u, v) - 0.92,
    "square": lambda u, v: torch.maximum(u.abs(), v.abs()) - 0.8,
    "triangle": lambda u, v: torch.maximum(0.867 * u.abs() - 0.499 * (v + 0.95), v - 0.7),
    "star": _star,
    "cross": _cross,
    "heart": _heart,
    "ring": lambda u, v: (torch.hypot(u, v) - 0.68).abs() - 0.24,
    "diamond": lambda u, v: (u.abs() / 0.66 + v.abs() - 1) * 0.55,
}


def _stripes(x: Tensor, y: Tensor) -> Tensor:
    return _soft_square_wave((x + y) / math.sqrt(2), 7.0)


def _dots(x: Tensor, y: Tensor) -> Tensor:
    cell = 13.0
    dx, dy = torch.remainder(x + cell / 2, cell) - cell / 2, torch.remainder(y, cell) - cell / 2
    return (torch.hypot(dx, dy) - 3.6 + 0.5).clamp(0, 1)  # 0 on a dot


def _checks(x: Tensor, y: Tensor) -> Tensor:
    a, b = _soft_square_wave(x, 9.0), _soft_square_wave(y, 9.0)
    return a * b + (1 - a) * (1 - b)


def _soft_square_wave(x: Tensor, half_period: float) -> Tensor:
    """1 and 0 by turns, `half_period` pixels each, with one-pixel ramps; 1 around x = 0."""
    phase = torch.remainder(x + half_period / 2, 2 * half_period)
    edge = half_period / 2 - (phase - half_period / 2).abs()  # pixels inside the first half
    wrapped = torch.maximum(edge, half_period / 2 - (phase - 2.5 * half_period).abs())
    return (wrapped + 0.5).clamp(0, 1)


Distance = Callable[[Sequence[int], Tensor, Tensor, Tensor], Tensor]


def signed_distance(shapes: Sequence[int], x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Signed distance in pixels to each shape, (N, 128, 128).

    Args:
        shapes: (N,) places in SHAPE_NAMES.
        x, y: (N, 128, 128) pixels from each centre.
        radius: (N, 1, 1) pixels.
    """
    out = torch.empty_like(x)
    which = torch.tensor(shapes)
    for index in set(shapes):
        rows = which == index
        u, v = x[rows] / radius[rows], y[rows] / radius[rows]
        out[rows] = DISTANCE[SHAPE_NAMES[index]](u, v) * radius[rows]
    return out


def render(
    scenes: Sequence[Scene], generator: torch.Generator, *, distance: Distance = signed_distance
) -> Tensor:
    """Pictures of the scenes, (N, 3, 128, 128) in 0..1; `generator` draws the small jitters.

    `distance` may draw other shapes than the vocabulary's, or the same ones askew.
    """
    count = len(scenes)
    background = _shade([PALETTE[BACKGROUNDS[s.background]] for s in scenes], generator)
    picture = background[:, :, None, None].expand(count, 3, SIZE, SIZE)
    for layer in (1, 0):  # the first thing lies on top: it may be inside the second
        picture = _draw_layer(
            picture, background, scenes, layer, generator=generator, distance=distance
        )
    return picture.clamp(0, 1)


def _shade(colours: Sequence[tuple[float, float, float]], generator: torch.Generator) -> Tensor:
    colour = torch.tensor(colours)
    return colour + SHADE_JITTER * (2 * torch.rand(len(colour), 1, generator=generator) - 1)


def _draw_layer(
    picture: Tensor,
    background: Tensor,
    scenes: Sequence[Scene],
    layer: int,
    *,
    generator: torch.Generator,
    distance: Distance,
) -> Tensor:
    """The pictures with each scene's `layer`-th thing painted over them."""
    drawn = [i for i, scene in enumerate(scenes) if layer < len(scene.things)]
    # Drawn for every scene, so that no scene's jitter depends on what its neighbours hold.
    jitter = 2 * torch.rand(len(scenes), 3, generator=generator) - 1
    colour = _shade(
        [PALETTE[COLOUR_NAMES[s.things[min(layer, len(s.things) - 1)].colour]] for s in scenes],
        generator,
    )
    if not drawn:
        return picture
    places = torch.tensor([_place(scenes[i], layer) for i in drawn])
    x, y, radius = _pixel_grid(places, jitter[drawn])
    edge = distance([scenes[i].things[layer].shape for i in drawn], x, y, radius)
    styles = torch.tensor([scenes[i].things[layer].style for i in drawn])
    coverage, ink = _fill(edge, x, y, styles, colour=colour[drawn])
    halo = (0.5 - (edge - HALO)).clamp(0, 1)[:, None]
    under = picture[drawn] * (1 - halo) + background[drawn][:, :, None, None] * halo
    out = picture.clone()
    out[drawn] = under * (1 - coverage[:, None]) + ink * coverage[:, None]
    return out


def _place(scene: Scene, layer: int) -> tuple[float, float, float]:
    if scene.relation is None:
        return SINGLE
    return PLACES[RELATION_NAMES[scene.relation]][layer]


def _pixel_grid(places: Tensor, jitter: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Pixel offsets from each centre, (N, 128, 128) twice, and radii (N, 1, 1)."""
    axis = torch.arange(SIZE) + 0.5
    centre = places[:, :2] + JITTER * jitter[:, :2]
    radius = places[:, 2] * (1 + SIZE_JITTER * jitter[:, 2])
    x = (axis[None, None, :] - centre[:, 0, None, None]).expand(-1, SIZE, SIZE)
    y = (axis[None, :, None] - centre[:, 1, None, None]).expand(-1, SIZE, SIZE)
    return x, y, radius[:, None, None]


def _fill(
    distance: Tensor, x: Tensor, y: Tensor, styles: Tensor, *, colour: Tensor
) -> tuple[Tensor, Tensor]:
    """Coverage (N, 128, 128) and ink (N, 3, 128, 128) of things in their styles."""
    coverage = (0.5 - distance).clamp(0, 1)
    ink = colour[:, :, None, None].expand(-1, 3, SIZE, SIZE).clone()
    for name, pattern, second in (
        ("striped", _stripes, 0.35 * colour),
        ("dotted", _dots, torch.full_like(colour, 0.98)),
        ("checkered", _checks, 0.35 * colour + 0.62),
    ):
        rows = styles == STYLE_NAMES.index(name)
        if rows.any():
            mix = pattern(x[rows], y[rows])[:, None]
            ink[rows] = ink[rows] * mix + second[rows][:, :, None, None] * (1 - mix)
    rows = styles == STYLE_NAMES.index("outlined")
    stroke = (0.5 - ((distance + 2.5).abs() - 2.5)).clamp(0, 1)
    return torch.where(rows[:, None, None], stroke, coverage), ink
