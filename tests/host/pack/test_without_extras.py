"""Inside ComfyUI the pack needs nothing of the headless command's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from setup import comfyui_path

ROOT = Path(__file__).parents[3]

# Imports the pack as ComfyUI does, where the extras can't be imported.
CODE = f"""
import asyncio, importlib.util, sys
sys.modules.update(dict.fromkeys(["accelerate", "diffusers", "peft"]))
sys.path.insert(0, {str(comfyui_path())!r})
import comfy.options
comfy.options.enable_args_parsing(False)
from comfy.cli_args import args
args.cpu = True
where = {{"submodule_search_locations": [{str(ROOT)!r}]}}
spec = importlib.util.spec_from_file_location("pack", {str(ROOT / "__init__.py")!r}, **where)
pack = sys.modules["pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
nodes = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
print([node.__name__ for node in nodes])
"""


def test_nodes_come_up_without_diffusers_and_peft() -> None:
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "'EraseConcept', 'PlanConcept', 'ApplyErasure'" in done.stdout
