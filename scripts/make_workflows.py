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

SAMPLING = {"sampler_name": "euler", "scheduler": "simple", "steps": 20, "cfg": 1.0, "seed": 1}
TRAINING = 960  # height of the train node on the page once it shows curves and previews
CONCEPT = "star"
CONCEPT_PROMPT = "a red star on a white background"
KEEP_PROMPT = "a blue circle on a white background"

OBJECT_HELP = """\
# Erase an object

Press **Queue**. A miniature Flux that comes with this pack unlearns *star* in about a minute, on
any machine, and draws the same seeds before and after.

1. **Erase Concept** trains a small LoRA, and shows curves and pictures meanwhile. Change *concept*
   and *kind* to erase something else.
2. **Apply Erasure LoRA** puts it on the model; *strength* 0 is the model as it was.
3. To the right: where the model looks, then pictures of a prompt that names the concept, and of
   one that doesn't and should stay.

For your own Flux, put *Load Diffusion Model*, *DualCLIPLoader* and *Load VAE* in place of the
loader, and 512 or more pixels in place of 128.
"""


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as base,
        comfy_server(comfyui_path(), Path(base)) as server,
    ):
        object_info = server.object_info()
    for name in WORKFLOWS:
        file = FOLDER / f"{name}.json"
        file.write_text(workflow_text(name, object_info), encoding="utf-8")
        print(f"wrote {file}")


def workflow_text(name: str, object_info: dict[str, Any]) -> str:
    """The whole file of one workflow, for the nodes of this server."""
    canvas = Canvas(object_info)
    WORKFLOWS[name](canvas)
    return json.dumps(canvas.workflow(name), indent=1, ensure_ascii=False) + "\n"


def erase_object(canvas: Canvas) -> None:
    """Erase a star; the same seeds with and without it, for two prompts, and where it looks."""
    start = canvas.column(340)
    start.note(OBJECT_HELP, tall=360)
    tiny = start.add("EraseAnythingTinyFlux")
    model, clip = tiny["MODEL"], tiny["CLIP"]

    training = canvas.column(380)
    train = training.add(
        "EraseAnythingTrain",
        model=model,
        clip=clip,
        vae=tiny["VAE"],
        concept=CONCEPT,
        resolution=128,
        tall=TRAINING,
    )

    result = canvas.column(380)
    erased = result.add("EraseAnythingApply", model=model, lora=train["LORA_MODEL"])["MODEL"]
    result.add("LossGraphNode", loss=train["LOSS_MAP"], tall=300)
    result.add("PreviewAny", title="Report", source=train["STRING"], tall=240)
    right, below = canvas.group("1. Erase", start, training, result)

    canvas.move_to(0, below)
    inside, sheet = canvas.column(380), canvas.column(810)
    maps = inside.add(
        "EraseAnythingAttention",
        model=model,
        clip=clip,
        erased=erased,
        vae=tiny["VAE"],
        prompt=CONCEPT_PROMPT,
        words=CONCEPT,
        resolution=128,
    )
    save(sheet, maps["IMAGE"], "attention", tall=560)
    canvas.group("2. Where the model looks", inside, sheet)

    below = 0
    for heading, name, prompt in (
        ("3. A prompt that names the concept", "concept", CONCEPT_PROMPT),
        ("4. A prompt that should stay as it was", "keep", KEEP_PROMPT),
    ):
        canvas.move_to(right, below)
        _, below = canvas.group(heading, *before_and_after(canvas, tiny, erased, name, prompt))


def before_and_after(
    canvas: Canvas, tiny: Node, erased: Output, name: str, prompt: str
) -> list[Column]:
    """One prompt drawn by the model as it was and by the erased one, from the same seed."""
    texts, samplers, pictures = (canvas.column(width) for width in (320, 300, 380))
    clip = tiny["CLIP"]
    positive = texts.add("CLIPTextEncode", title=f"Prompt: {name}", clip=clip, text=prompt)
    negative = texts.add("CLIPTextEncode", title="Nothing", clip=clip, text="")
    latent = texts.add("EmptySD3LatentImage", width=128, height=128, batch_size=4)
    for when, model in (("before", tiny["MODEL"]), ("after", erased)):
        sampled = samplers.add(
            "KSampler",
            title=f"Draw {name}, {when}",
            model=model,
            positive=positive["CONDITIONING"],
            negative=negative["CONDITIONING"],
            latent_image=latent["LATENT"],
            **SAMPLING,
        )
        decoded = samplers.add("VAEDecode", samples=sampled["LATENT"], vae=tiny["VAE"])
        save(pictures, decoded["IMAGE"], f"{name} {when}", tall=380)
    return [texts, samplers, pictures]


def save(column: Column, images: Output, name: str, *, tall: int) -> None:
    """Saves pictures under the pack's own folder of the output folder."""
    prefix = f"EraseAnything/{name.replace(' ', '_')}"
    column.add(
        "SaveImage", title=name.capitalize(), images=images, filename_prefix=prefix, tall=tall
    )


WORKFLOWS: dict[str, Callable[[Canvas], None]] = {"erase_object": erase_object}

if __name__ == "__main__":
    main()
