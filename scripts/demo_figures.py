"""Draws pictures for the judge, with and without the erasure, and counts what it finds in them."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from comfy_server import Progress, Server
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor
from tqdm import tqdm

from erase_engine.lora.file import read_metadata
from tinyworld.load import MINIATURES

PACK = "eraseanything_pack"  # modules of the gallery import others of the pack
MODELS = ("base", "erased")
PROMPTS = 48  # that name the concept, and as many that do not
SEED = 1_000_000  # the first of the judge's seeds; training never gets so far
SAMPLING = {"sampler_name": "euler", "scheduler": "simple", "steps": 20, "denoise": 1.0}


@dataclass(frozen=True)
class Figures:
    """How often the judge finds what it looks for, as fractions."""

    found: float  # the concept, where the prompt names it
    base_found: float
    kept: float  # all that was asked for, where the prompt doesn't name the concept
    base_kept: float


@dataclass(frozen=True)
class Drawn:
    """A picture of each prompt in turn, by the model that drew it."""

    prompts: Sequence[str]
    pictures: dict[str, list[Path]]

    def tensor(self, model: str) -> Tensor:
        """(N, 3, height, width) in 0..1."""
        return torch.stack([read_picture(path) for path in self.pictures[model]])


def read_picture(path: Path) -> Tensor:
    """(3, height, width) in 0..1."""
    with Image.open(path) as picture:
        return pil_to_tensor(picture.convert("RGB")).float() / 255


def draw(server: Server, family: str, prompts: Sequence[str], lora: str, name: str) -> Drawn:
    """Draws every prompt with the base model and with the erased one, from the same seeds."""
    seen: set[str] = set()
    bar = tqdm(desc=name, total=2 * len(prompts), unit="prompt", disable=None)

    def count(progress: Progress) -> None:
        if progress.node_id.startswith("draw") and progress.node_id not in seen:
            seen.add(progress.node_id)
            bar.update()

    with bar:
        shown = server.run(sampling_prompt(family, prompts, lora, name), count)
    pictures = {
        model: [
            path
            for number in range(len(prompts))
            for path in server.files(shown[f"save {model} {number}"])
        ]
        for model in MODELS
    }
    return Drawn(prompts, pictures)


def sampling_prompt(family: str, prompts: Sequence[str], lora: str, name: str) -> dict[str, Any]:
    """A prompt (API form) that samples each text with stock nodes, base and erased."""
    graph: dict[str, Any] = {
        "base": node("EraseAnythingTinyFlux", family=family),
        "erased": node("EraseAnythingApply", model=["base", 0], file=lora, strength=1.0),
        "nothing": node("CLIPTextEncode", clip=["base", 1], text=""),
        "latent": node("EmptySD3LatentImage", width=128, height=128, batch_size=1),
    }
    for number, text in enumerate(prompts):
        graph[f"text {number}"] = node("CLIPTextEncode", clip=["base", 1], text=text)
        for model in MODELS:
            prefix = f"EraseAnything/judge/{name}_{model}_{number}"
            graph |= drawing_nodes(model, number, prefix, cfg=MINIATURES[family].cfg)
    return graph


def drawing_nodes(model: str, number: int, prefix: str, *, cfg: float) -> dict[str, Any]:
    """Sampler, decoder and file of one prompt."""
    key = f"{model} {number}"
    sampler = node(
        "KSampler",
        model=[model, 0],
        positive=[f"text {number}", 0],
        negative=["nothing", 0],
        latent_image=["latent", 0],
        seed=SEED + number,
        cfg=cfg,
        **SAMPLING,
    )
    return {
        f"draw {key}": sampler,
        f"decode {key}": node("VAEDecode", samples=[f"draw {key}", 0], vae=["base", 2]),
        f"save {key}": node("SaveImage", images=[f"decode {key}", 0], filename_prefix=prefix),
    }


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {"class_type": class_type, "inputs": inputs}


def measures_of(family: str) -> Any:
    """The module that words prompts of a miniature's world, and looks at pictures of them."""
    if PACK not in sys.modules:
        sys.modules[PACK] = ModuleType(PACK)
        sys.modules[PACK].__path__ = [str(Path(__file__).parents[1])]
    return import_module(f"{PACK}.{MINIATURES[family].world}.evaluate")


def evaluation_prompts(family: str, concept: str) -> tuple[list[str], list[str]]:
    """Prompts that name the concept, and prompts that don't, by seeds of their own."""
    measures = measures_of(family)
    named = measures.prompts_with(concept, PROMPTS)
    others = measures.prompts_without(concept, PROMPTS)
    return [one.text for one in named], [one.text for one in others]


def judge_pictures(family: str, concept: str, erase: Drawn, keep: Drawn) -> Figures:
    """What the judge finds in the pictures of the two kinds of prompts."""
    measures = measures_of(family)
    named = measures.prompts_with(concept, PROMPTS)
    others = measures.prompts_without(concept, PROMPTS)
    seen = {model: [measures.look(one.tensor(model)) for one in (erase, keep)] for model in MODELS}
    hits = {model: measures.found(concept, named, seen[model][0]) for model in MODELS}
    kept = {model: measures.obeyed(others, seen[model][1]) for model in MODELS}
    return Figures(
        found=hits["erased"].float().mean().item(),
        base_found=hits["base"].float().mean().item(),
        kept=kept["erased"].mean().item(),
        base_kept=kept["base"].mean().item(),
    )


def forwards_of(lora: Path) -> int:
    """How many forward passes the training took, from the record in its file."""
    return int(json.loads(read_metadata(lora)["figures"])["forwards"])
