"""A real ComfyUI in this process, on the CPU, and a tiny Flux with random weights in it."""

from __future__ import annotations

import os
import sys
import types
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
COMFY = Path(os.environ.get("COMFYUI_PATH", ROOT / ".comfyui"))
PACK = "eraseanything_pack"

if not (COMFY / "comfy").is_dir():
    pytest.skip(f"no ComfyUI in {COMFY}: set COMFYUI_PATH", allow_module_level=True)

sys.path.insert(0, str(COMFY))
sys.path.insert(1, str(Path(__file__).parent))

import comfy.options  # noqa: E402

comfy.options.enable_args_parsing(False)
from comfy.cli_args import args  # noqa: E402

args.cpu = True
import utils  # noqa: E402, F401  # the host's package, before its `nodes` hides it by comfy/utils.py


def import_pack() -> None:
    """Makes the repository a package, as ComfyUI does, without its nodes being registered."""
    pack = types.ModuleType(PACK)
    pack.__path__ = [str(ROOT)]
    sys.modules.setdefault(PACK, pack)


import_pack()

import comfy.model_management  # noqa: E402
from tiny_flux import build  # noqa: E402


@pytest.fixture(autouse=True)
def forgotten() -> None:
    """The host forgets MODELs that are gone while something still holds their nets.

    Else it collects all garbage at each load, as long as the net lives: to encode a text takes 50
    times as long then, and a training of the paper's recipe minutes.
    """
    loaded = comfy.model_management.current_loaded_models
    loaded[:] = [each for each in loaded if not each.is_dead()]


@pytest.fixture
def flux() -> Callable[..., object]:
    """Builds tiny models: `flux(dtype=..., inference=True, guidance_embed=False)`."""
    return build


@pytest.fixture
def noted(
    record_property: Callable[..., None], request: pytest.FixtureRequest
) -> Callable[[str, float], None]:
    """Notes how far a net's figure is from what it should be, for `benchmarks.families`."""
    name = request.node.callspec.params["name"]
    return lambda figure, error: record_property(f"{name}/{figure}", float(error))


@pytest.fixture
def loras(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """models/loras, empty; what nodes write elsewhere goes beside it."""
    import folder_paths

    folder = tmp_path / "loras"
    folder.mkdir()
    monkeypatch.setitem(
        folder_paths.folder_names_and_paths, "loras", ([str(folder)], {".safetensors"})
    )
    folder_paths.filename_list_cache.pop("loras", None)
    monkeypatch.setattr(folder_paths, "temp_directory", str(tmp_path / "temp"))
    monkeypatch.setattr(folder_paths, "output_directory", str(tmp_path / "output"))
    return folder


@pytest.fixture
def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)
