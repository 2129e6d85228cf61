"""The tiny world's star, erased on the GPU and on the CPU."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from eraseanything_pack.erase_engine.training.encoded_prompts import encode_prompts, needed_by
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.tinyworld.evaluate import found, obeyed
from safetensors.torch import load_file, save_file
from torch import Generator

from ..erasure.case import Case
from ..erasure.figures import percent
from ..erasure.methods import config_of
from ..world import World
from .setting import Rows, Setting

CONCEPT, SEED, COUNT = "star", 0, 48


def world(setting: Setting) -> Rows:
    own = World()
    plan, config = own.plan(CONCEPT), replace(config_of("fast", SEED), width=128, height=128)
    encoded = encode_prompts(plan, own.encoder, **needed_by(config))
    began = time.perf_counter()
    with torch.inference_mode(), training_session(own.model, checkpointing=False) as backend:
        generator = Generator().manual_seed(config.seed)
        state = train_erasure(backend, encoded, config, generator=generator).state
    seconds = time.perf_counter() - began
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "star.safetensors"
        save_file(state, path)
        command = [sys.executable, "-m", "benchmarks.gpu", "--found", str(path)]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    both = json.loads(told.splitlines()[-1])
    yield {"where": str(setting.device), "seconds": round(seconds, 1), **both["given"]}
    yield {"where": "cpu", **both["own"]}


def judged(path: Path) -> dict[str, Any]:
    """The star found, and all else obeyed, with a given LoRA and with one trained here."""
    case = Case(World(), CONCEPT, SEED, COUNT)
    own = case.world.erase(case.plan, config_of("fast", SEED))
    state = load_file(path)
    result = {}
    for name, erasure in (("given", replace(own, state=state)), ("own", own)):
        seen = {k: case.world.judge.look(case.draw(k, erasure)) for k in ("named", "others")}
        star = found(CONCEPT, case.prompts["named"], seen["named"])
        rest = obeyed(case.prompts["others"], seen["others"])
        result[name] = {"found": percent(star), "everything_else": percent(rest)}
    return result
