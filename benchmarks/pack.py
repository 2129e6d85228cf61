"""Imports this pack as ComfyUI would, outside its server: relative imports need a package."""

from __future__ import annotations

import sys
import types
from pathlib import Path

ROOT = Path(__file__).parents[1]
NAME = "eraseanything_pack"


def import_pack(*, cpu: bool = True) -> None:
    """Makes `eraseanything_pack` importable, and `comfy`, on the CPU or on what there is."""
    sys.path.insert(0, str(ROOT))
    from tinyworld.make.host import use_comfyui

    use_comfyui(cpu=cpu)
    pack = types.ModuleType(NAME)
    pack.__path__ = [str(ROOT)]
    sys.modules.setdefault(NAME, pack)
