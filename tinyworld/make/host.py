"""Puts the ComfyUI tree on the path for scripts that run outside the server."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def use_comfyui(*, cpu: bool = True) -> None:
    """Makes `import comfy` work: the tree at COMFYUI_PATH, or the one that set-up made."""
    root = Path(os.environ.get("COMFYUI_PATH", Path(__file__).parents[2] / ".comfyui"))
    if not (root / "comfy").is_dir():
        raise SystemExit(f"No ComfyUI at {root}. Run `make setup`, or set COMFYUI_PATH.")
    sys.path.insert(0, str(root))
    import comfy.options

    comfy.options.enable_args_parsing(False)
    from comfy.cli_args import args

    args.cpu = args.cpu or cpu
