"""Draws scenes of the gallery as 128 x 128 pictures, from a seed."""

from __future__ import annotations

import io
import json
import re
import subprocess
from dataclasses import replace
from functools import cache
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from ..vocabulary import PLAIN, Scene
from .sources import CACHE, fetched, icon

SIZE = 128  # pixels
JITTER = 1.0  # pixels, in each direction
OBJECT, PAIRED, PORTRAIT = 104.0, 60.0, 124.0  # pixels: sides of what is drawn
CENTRE = SIZE / 2, SIZE / 2
PLACES = {"over": ((64.0, 33.0), (64.0, 95.0)), "beside": ((33.0, 64.0), (95.0, 64.0))}

SHADES = {
    "white": torch.tensor([250.0, 250, 250]),
    "gray": torch.tensor([185.0, 188, 194]),
    "beige": torch.tensor([236.0, 217, 180]),
    "mint": torch.tensor([181.0, 224, 203]),
}
CLOTHS = {"white": "#ffffff", "pink": "#f5b5c0", "lime": "#cfe57a", "yellow": "#f3d35a"}
EDGE = 'stroke="#333333" stroke-width="2" stroke-linejoin="round"'
HANDLE = 'd="M96 44 h8 q14 0 14 20 q0 22 -22 24"'
# Of each carrier: its drawing, with {cloth} for its colour, where a mark stands, and how large.
CARRIERS = {
    "T-shirt": (
        '<path fill="{cloth}" ' + EDGE + ' d="M44 22 L20 34 L10 62 L28 70 L33 58 V112 H95 V58 '
        'L100 70 L118 62 L108 34 L84 22 Q64 38 44 22 Z"/>',
        (64.0, 74.0),
        48.0,
    ),
    "mug": (
        f'<path fill="none" stroke="#333333" stroke-width="11" {HANDLE}/>'
        f'<path fill="none" stroke="{{cloth}}" stroke-width="7" {HANDLE}/>'
        '<path fill="{cloth}" ' + EDGE + ' d="M20 26 V98 Q20 110 32 110 H84 Q96 110 96 98 V26 Z"/>',
        (58.0, 68.0),
        54.0,
    ),
    "sign": (
        '<path fill="#8a5a33" ' + EDGE + ' d="M59 84 H69 V122 H59 Z"/>'
        '<rect fill="{cloth}" ' + EDGE + ' x="16" y="12" width="96" height="74" rx="8"/>',
        (64.0, 49.0),
        56.0,
    ),
}
MARK_ICONS = {
    "mozilla": "firefox",
    "android": "android-icon",
    "tux": "linux-tux",
    "postgres": "postgresql",
    "docker": "docker-icon",
}


def render_all(scenes: list[Scene], seed: int) -> Tensor:
    """(N, 3, 128, 128) uint8: each drawing moved by up to JITTER, in steps of half a pixel."""
    rng, most = Random(seed), round(2 * JITTER)
    pictures = []
    for scene in scenes:
        brows = rng.choice(("up", "down")) if scene.kind == "portrait" else ""
        sheet = painted(replace(scene, background=""), brows)
        across, down = most + rng.randint(-most, most), most + rng.randint(-most, most)
        colour, alpha = pooled(sheet[:, down : down + 2 * SIZE, across : across + 2 * SIZE])
        behind = SHADES[scene.background][:, None, None]
        pictures.append((colour + (1 - alpha) * behind).round().to(torch.uint8))
    return torch.stack(pictures)


def pooled(sheet: Tensor) -> tuple[Tensor, Tensor]:
    """Colours (3, 128, 128) in 0..255, times their alpha, and alpha (1, 128, 128) in 0..1."""
    small = torch.nn.functional.avg_pool2d(sheet.float(), 2)
    return small[:3], small[3:] / 255


@cache
def painted(scene: Scene, brows: str) -> Tensor:
    """(4, 2 * (128 + 2 JITTER), ...) uint8: the drawing without a background, twice as large.

    Red, green and blue are times alpha. Its edges go on past the picture's.
    """
    if scene.kind == "portrait":
        inside = _portrait(scene, brows)
    elif scene.kind == "carrier":
        inside = _carrier(scene)
    elif scene.kind == "object":
        inside = _subject(scene.artist, scene.subject, CENTRE, OBJECT)
    else:
        things = zip((scene.subject, scene.second), PLACES[scene.kind], strict=True)
        inside = "".join(_subject(scene.artist, name, at, PAIRED) for name, at in things)
    names = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"'
    svg = f'<svg {names} viewBox="0 0 {SIZE} {SIZE}">{inside}</svg>'
    edge = round(2 * JITTER)
    sheet = torch.nn.functional.pad(raster(svg, 2 * SIZE).float(), [edge] * 4, mode="replicate")
    return sheet.to(torch.uint8)


def raster(svg: str, side: int) -> Tensor:
    """(4, side, side) uint8; red, green and blue are times alpha."""
    import numpy as np
    import resvg_py
    from PIL import Image

    drawn = resvg_py.svg_to_bytes(svg_string=svg, width=side, height=side)
    pixels = torch.from_numpy(
        np.asarray(Image.open(io.BytesIO(bytes(drawn))).convert("RGBA")).copy()
    )
    pixels = pixels.permute(2, 0, 1).float()
    return torch.cat([pixels[:3] * pixels[3:] / 255, pixels[3:]]).round().to(torch.uint8)


def _subject(artist: str, name: str, centre: tuple[float, float], side: float) -> str:
    body, (left, top, width, height) = icon(artist, name)
    if artist == "openmoji":  # which leaves a wide margin
        left, top, width, height = left + 5, top + 5, width - 10, height - 10
    return _placed(body, (left, top, width, height), centre, side)


def _portrait(scene: Scene, brows: str) -> str:
    svg = portraits()["/".join((scene.person, scene.mouth, brows, scene.shirt))]
    body = re.sub(r"<metadata.*?</metadata>", "", re.sub(r"^<svg[^>]*>", "", svg))
    body = body.removesuffix("</svg>")
    return f'<g fill="none">{_placed(body, (0, 0, 360, 360), (64.0, 66.0), PORTRAIT)}</g>'


def _carrier(scene: Scene) -> str:
    shape, centre, side = CARRIERS[scene.carrier]
    drawn = shape.replace("{cloth}", CLOTHS[scene.colour])
    if scene.mark == PLAIN:
        return drawn
    return drawn + _placed(*icon("marks", MARK_ICONS.get(scene.mark, scene.mark)), centre, side)


def _placed(
    body: str, box: tuple[float, float, float, float], centre: tuple[float, float], side: float
) -> str:
    """A drawing whose longer side is `side` pixels, around `centre`."""
    scale = side / max(box[2:])
    width, height = box[2] * scale, box[3] * scale
    x, y = centre[0] - width / 2, centre[1] - height / 2
    view = " ".join(f"{edge:g}" for edge in box)
    place = f'x="{x:.2f}" y="{y:.2f}" width="{width:.2f}" height="{height:.2f}"'
    return f'<svg {place} viewBox="{view}">{body}</svg>'


@cache
def portraits() -> dict[str, str]:
    """SVG of every portrait, by "name/mouth/brows/shirt"; made by node the first time."""
    path = CACHE / "portraits.json"
    if not path.exists():
        script = Path(__file__).with_name("people.mjs")
        folders = [str(fetched(name).resolve()) for name in ("portraits", "people")]
        made = subprocess.run(
            ["node", str(script), *folders], check=True, capture_output=True, text=True
        )
        path.write_text(made.stdout)
    return json.loads(path.read_text())
