"""Fetches the drawings that the gallery is made of: npm packages of pinned versions."""

from __future__ import annotations

import json
import subprocess
from functools import cache
from pathlib import Path
from typing import Any

CACHE = Path(".gallery")  # in the working folder; not kept
# artist or use -> (npm package, version, licence, who drew it)
SOURCES: dict[str, tuple[str, str, str, str]] = {
    "openmoji": ("@iconify-json/openmoji", "1.2.29", "CC-BY-SA-4.0", "OpenMoji"),
    "ink": ("@iconify-json/fluent-emoji-high-contrast", "1.2.6", "MIT", "Microsoft"),
    "fluent": ("@iconify-json/fluent-emoji", "1.2.7", "MIT", "Microsoft"),
    "firefox": ("@iconify-json/fxemoji", "1.2.2", "Apache-2.0", "Mozilla"),
    "noto": ("@iconify-json/noto-v1", "1.2.5", "Apache-2.0", "Google"),
    "marks": ("@iconify-json/logos", "1.2.19", "CC0-1.0", "Gil Barbara"),
    "people": ("@dicebear/micah", "9.4.3", "CC-BY-4.0", "Micah Lanier"),
    "portraits": (
        "@dicebear/core",
        "9.4.3",
        "MIT",
        "Florian Körner",
    ),  # code that puts them together
}


@cache
def fetched(name: str) -> Path:
    """The folder of a source's package; npm fetches all of them the first time."""
    folder = CACHE / "node_modules"
    if not all((folder / package).exists() for package, *_ in SOURCES.values()):
        CACHE.mkdir(exist_ok=True)
        wanted = [f"{package}@{version}" for package, version, *_ in SOURCES.values()]
        asked = ["npm", "install", "--no-save", "--ignore-scripts", "--prefix", str(CACHE)]
        subprocess.run([*asked, *wanted], check=True)
    return folder / SOURCES[name][0]


@cache
def icons(name: str) -> dict[str, Any]:
    """An icon set as its package has it: "icons" by name, "aliases", a common "width"."""
    return json.loads((fetched(name) / "icons.json").read_text())


def icon(source: str, name: str) -> tuple[str, tuple[float, float, float, float]]:
    """An icon's SVG body, and its view box: left, top, width, height."""
    drawings = icons(source)
    found = drawings["icons"].get(name) or drawings["icons"][drawings["aliases"][name]["parent"]]
    places = (("left", 0), ("top", 0), ("width", 16), ("height", 16))
    box = tuple(found.get(key, drawings.get(key, default)) for key, default in places)
    return found["body"], box  # type: ignore[return-value]
