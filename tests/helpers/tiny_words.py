"""The tiny world's own vocabulary, without a ComfyUI."""

from __future__ import annotations

import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from erase_engine.concepts.vocabulary import Vocabulary

PACK = "eraseanything_pack"  # as ComfyUI makes the repository a package

if PACK not in sys.modules:
    sys.modules[PACK] = ModuleType(PACK)
    sys.modules[PACK].__path__ = [str(Path(__file__).parents[2])]

TINY_WORLD: Vocabulary = import_module(f"{PACK}.tinyworld.planning").TINY_WORLD
