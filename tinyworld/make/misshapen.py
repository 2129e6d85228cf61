"""Shapes that are none of the vocabulary's, and the vocabulary's a little askew: for the judge.

What an erased model draws where the concept stood may be no shape at all. A judge that knows the
vocabulary alone would have to call it something.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from ..judge_networks import NO_SHAPE
from ..pictures import SIZE, signed_distance

ASKEW_ANGLE, ASKEW_BEND = math.radians(8), 0.09  # radians; radii
WAVES = (2, 3, 4, 6)  # of a blob's rim; five would be a star
MOST_ROUND = 0.85  # likeness to a disc above which no shape counts as none


def likeness_to_disc(distance: Tensor, x: Tensor, y: Tensor) -> float:
    """Intersection over union of a shape, (1, H, W), and the disc of its area about its middle."""
    inside = distance < 0
    area = inside.sum()
    middle_x, middle_y = ((axis * inside).sum() / area for axis in (x, y))
    disc = torch.hypot(x - middle_x, y - middle_y) < (area / math.pi).sqrt()
    return ((inside & disc).sum() / (inside | disc).sum()).item()


class Misshapen:
    """A signed distance for `render`: shape NO_SHAPE is a new one each time, others stand askew."""

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)

    def __call__(self, shapes: Sequence[int], x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
        """(N, 128, 128) pixels, as `signed_distance`."""
        none = torch.tensor(shapes) == NO_SHAPE
        x, y = self._turned(x, y, ASKEW_ANGLE)
        x, y = (axis + self._bend(len(x), ASKEW_BEND) * radius for axis in (x, y))
        out = torch.empty_like(x)
        if not none.all():
            known = [shape for shape in shapes if shape != NO_SHAPE]
            out[~none] = signed_distance(known, x[~none], y[~none], radius[~none])
        for row in none.nonzero().flatten().tolist():
            out[row] = self._none(*(each[row : row + 1] for each in (x, y, radius)))[0]
        return out

    def _none(self, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
        """A shape that nobody would call a circle: half a circle and half a ring is a disc."""
        while True:
            make = (self._blend, self._blob, self._bent)[self._whole(3)]
            distance = make(x, y, radius)
            if likeness_to_disc(distance, x, y) < MOST_ROUND:
                return distance

    def _blend(self, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
        """Halfway between two shapes."""
        first = self._whole(NO_SHAPE)
        second = (first + 1 + self._whole(NO_SHAPE - 1)) % NO_SHAPE
        share = 0.4 + 0.2 * self._unit()
        one, other = (signed_distance([shape], x, y, radius) for shape in (first, second))
        return share * one + (1 - share) * other

    def _blob(self, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
        """A disc with a wavy rim."""
        angle = torch.atan2(y, x)
        rim = torch.full_like(angle, 0.55 + 0.25 * self._unit())
        for waves in WAVES:
            height = (0.2 + 0.25 * self._unit()) / math.sqrt(waves)
            rim = rim + height * torch.cos(waves * angle + math.tau * self._unit())
        return torch.hypot(x, y) - radius * rim

    def _bent(self, x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
        """A shape bent beyond recognition."""
        x, y = (axis + self._bend(1, 0.55 + 0.2 * self._unit()) * radius for axis in (x, y))
        return signed_distance([self._whole(NO_SHAPE)], x, y, radius)

    def _turned(self, x: Tensor, y: Tensor, most: float) -> tuple[Tensor, Tensor]:
        angle = most * (2 * torch.rand(len(x), 1, 1, generator=self.generator) - 1)
        return x * angle.cos() - y * angle.sin(), x * angle.sin() + y * angle.cos()

    def _bend(self, count: int, most: float) -> Tensor:
        """(count, 128, 128) smooth noise, about `most` at its highest."""
        coarse = torch.randn(count, 1, 7, 7, generator=self.generator) / 2
        return most * interpolate(coarse, (SIZE, SIZE), mode="bicubic")[:, 0]

    def _whole(self, limit: int) -> int:
        return int(torch.randint(limit, (1,), generator=self.generator))

    def _unit(self) -> float:
        return torch.rand(1, generator=self.generator).item()
