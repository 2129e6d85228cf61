"""Writes example_workflows/*.json; run it again when a node's inputs change.

It asks a running server what each node has, so the widgets are always in the page's order.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from comfy_server import PACK, comfy_server
from setup import comfyui_path
from workflow_canvas import Canvas, Column, Node, Output

FOLDER = PACK / "example_workflows"

OBJECT_HELP = """\
# Erase an object

Press **Queue**. A miniature Flux that comes with this pack unlearns *star* in about a minute, on any
machine, and draws the same seeds before and after.

1. **Erase Concept** trains a small LoRA. Change *concept* and *kind* to erase something else.
2. **Apply Erasure LoRA** puts it on the model; *strength* 0 is the model as it was.
3. Below: pictures of a prompt that names the concept, and of one that doesn't and should stay.

For your own Flux, put *Load Diffusion Model*, *DualCLIPLoader* and *Load VAE* in place of the loader,
and 512 or more pixels in place of 128.
"""


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as base,
        comfy_server(comfyui_path(), Path(base)) as server,
    ):
        object_info = server.object_info()
    for name, draw in WORKFLOWS.items():
        canvas = Canvas(object_info)
        draw(canvas)
        text = json.dumps(canvas.workflow(name), indent=1, ensure_ascii=False)
        (FOLDER / f"{name}.json").write_text(text + "\n", encoding="utf-8")
        print(f"wrote {FOLDER / name}.json")


def erase_object(canvas: Canvas) -> None:
    """Erase a star; the same seeds with and without it, for two prompts."""
    start = canvas.column(340)
    start.note(OBJECT_HELP, height=420)
    tiny = start.add("EraseAnythingTinyFlux")
    model, clip, vae = (tiny[name] for name in ("MODEL", "CLIP", "VAE"))

    training = canvas.column(400)
    train = training.add(
        "EraseAnythingTrain", model=model, clip=clip, concept="star", kind="object", resolution=128
    )

    using = canvas.column(400)
    apply = using.add("EraseAnythingApply", model=model, lora=train["LORA_MODEL"])
    using.add("LossGraphNode", loss=train["LOSS_MAP"], height=300)
    using.add("PreviewAny", title="Report", source=train["report"], height=240)
    erased = apply["MODEL"]

    texts = canvas.column(340)
    concept = text(texts, clip, "Prompt with the concept", "a red star on a white background")
    other = text(texts, clip, "Prompt to keep", "a blue circle on a white background")
    nothing = text(texts, clip, "Nothing", "")
    latent = texts.add("EmptySD3LatentImage", width=128, height=128, batch_size=4)

    samplers, pictures = canvas.column(300), canvas.column(300)
    for name, positive in (("concept", concept), ("keep", other)):
        for when, sampled in (("before", model), ("after", erased)):
            drawn = samplers.add(
                "KSampler",
                title=f"{name.capitalize()}, {when}",
                model=sampled,
                positive=positive,
                negative=nothing,
                latent_image=latent["LATENT"],
                cfg=1.0,
                sampler_name="euler",
                scheduler="simple",
                steps=20,
                seed=1,
            )
            decoded = samplers.add("VAEDecode", samples=drawn["LATENT"], vae=vae)
            pictures.add(
                "SaveImage",
                title=f"{name.capitalize()}, {when}",
                images=decoded["IMAGE"],
                filename_prefix=f"EraseAnything/{name}_{when}",
                height=320,
            )
