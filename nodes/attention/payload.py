"""Attention maps for the page: small enough for a message, whole enough to be explored there."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from ...erase_engine.attention.maps import AttentionMaps
from ...erase_engine.attention.query import AttentionQuery
from ..training.events import finite
from ..training.previews import data_url

LONGEST_SIDE = 32  # places; finer maps are averaged
MOST_PLACES = 400_000  # in all maps of one model; beyond that, steps are left out evenly


def page_maps(
    look: AttentionQuery,
    found: Mapping[str, AttentionMaps],
    pictures: Mapping[str, Tensor],
    prompt: str,
) -> dict[str, Any]:
    """All that the page needs to show any word at any step, as JSON.

    Each model has one grey picture, its `atlas`: a column for each word, the first row its mean
    over all steps, then a row for each step in `steps`. White stands for `highest` or more: as on
    the sheet, the brightest place of all means. By single steps' peaks the rest would be dark.
    """
    first = next(iter(found.values()))
    steps, means = _steps_shown(first.steps), first.maps
    size = min(means.shape[-2], LONGEST_SIDE), min(means.shape[-1], LONGEST_SIDE)
    tables = {
        name: adaptive_avg_pool2d(torch.cat([maps.maps[None], maps.steps[steps]]), size)
        for name, maps in found.items()
    }
    highest = max(max(table[0].max().item() for table in tables.values()), 1e-8)
    return {
        "prompt": prompt,
        "view": look.view,
        "highest": finite(highest),
        "grid": list(next(iter(tables.values())).shape[-2:]),  # rows, columns
        "steps": [step + 1 for step in steps],
        "total": len(first.steps),
        "first": int((means.amax(dim=(1, 2)) - means.amin(dim=(1, 2))).argmax()),  # the clearest
        "words": [
            {
                "name": word.name,
                "against": [other.name for other in word.contrast],
                "means": {name: finite(maps.means[index]) for name, maps in found.items()},
            }
            for index, word in enumerate(look.words)
        ],
        "models": [
            {
                "name": name,
                "atlas": _atlas(table / highest),
                "picture": data_url(pictures[name][0].float().cpu()) if name in pictures else None,
            }
            for name, table in tables.items()
        ],
    }


def _steps_shown(maps: Tensor) -> list[int]:
    """Which steps of (S, W, h, w) there is room for: all, or some, with the first and the last."""
    count, words, height, width = maps.shape
    places = words * min(height, LONGEST_SIDE) * min(width, LONGEST_SIDE)
    room = max(min(count, MOST_PLACES // places), 1)
    return sorted({round(at) for at in torch.linspace(0, count - 1, room).tolist()})


def _atlas(table: Tensor) -> str:
    """(R, W, h, w) in 0..1 as one grey PNG, R * h high and W * w wide."""
    rows, words, height, width = table.shape
    grey = (table.clamp(0, 1) * 255).round().byte()
    sheet = grey.transpose(1, 2).reshape(rows * height, words * width)
    buffer = io.BytesIO()
    Image.fromarray(sheet.numpy()).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
