"""Erases one concept from the tiny Flux inside a real ComfyUI, and shows how well it went.

Starts the server, queues the example workflow as it lies in the repository, draws further pictures
for the judge, and leaves what is worth looking at in output/demo/.
"""

from __future__ import annotations

import argparse
import json
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from comfy_server import PACK, ComfyError, Progress, Server, comfy_server
from demo_figures import Drawn, Figures, draw, evaluation_prompts, forwards_of, judge_pictures
from PIL import Image
from setup import comfyui_path
from tqdm import tqdm
from workflow_api import to_api

from erase_engine.contact_sheet import Row, contact_sheet
from tinyworld.load import MINIATURES

OUTPUT = PACK / "output" / "demo"
WORKFLOW = PACK / "example_workflows" / "erase_object.json"
GALLERY = "Flux, gallery"
FAMILIES = {name.lower(): name for name in MINIATURES} | {"gallery": GALLERY}
PICTURES_IN_ROW, SIDE = 10, 128  # of a sheet; pixels


def main() -> None:
    wanted = arguments()
    # Without this a terminated demo would leave the server running.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    try:
        run(wanted.concept, wanted.kind, wanted.family)
    except (ComfyError, ValueError) as error:
        sys.exit(f"\nThe demo stopped: {error}")
    except KeyboardInterrupt:
        sys.exit("\nThe demo was interrupted.")


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Erase a concept from a tiny model in ComfyUI.")
    parser.add_argument("--concept", help="a word that the model draws; default: star, or cat")
    parser.add_argument("--kind", default="object", help="object, style, person or relation")
    parser.add_argument("--model", default=next(iter(MINIATURES)), help=" or ".join(FAMILIES))
    wanted = parser.parse_args(given)
    if wanted.model.lower() not in FAMILIES:
        parser.error(f"got the model {wanted.model!r}, expected {' or '.join(FAMILIES)}")
    wanted.family = FAMILIES[wanted.model.lower()]
    wanted.concept = wanted.concept or ("cat" if wanted.family == GALLERY else "star")
    return wanted


def run(concept: str, kind: str, family: str) -> None:
    named, others = evaluation_prompts(family, concept)
    shutil.rmtree(OUTPUT, ignore_errors=True)
    with comfy_server(comfyui_path(), OUTPUT / "comfyui") as server:
        say(f"ComfyUI is up. Erasing {concept}:")
        prompt = demo_prompt(server, concept, kind, named=named[0], other=others[0])
        set_family(prompt, family)
        shown, seconds = follow(server, prompt)
        loras = server.base / "models" / "loras"
        [lora] = loras.rglob("*.safetensors")
        keep_files(server, prompt, shown, lora)
        say("Drawing pictures for the judge.")
        name = str(lora.relative_to(loras))
        erase = draw(server, family, named, name, "erase")
        keep = draw(server, family, others, name, "keep")
    sheet = contact_sheet(sheet_rows(concept, erase, keep), cell=SIDE)
    sheet.save(OUTPUT / "before_after.png")
    say("To look at:")
    for path in sorted(OUTPUT.glob("*.*")):
        say(f"  {path.relative_to(PACK)}")
    say(summary(concept, judge_pictures(family, concept, erase, keep), seconds, forwards_of(lora)))


def demo_prompt(
    server: Server, concept: str, kind: str, *, named: str, other: str
) -> dict[str, Any]:
    """The example workflow as the server takes it, about this concept."""
    workflow = json.loads(WORKFLOW.read_text(encoding="utf-8"))
    prompt = to_api(workflow, server.object_info())
    set_widgets(prompt, find(prompt, "EraseAnythingTrain"), concept=concept, kind=kind)
    set_widgets(prompt, find(prompt, "EraseAnythingAttention"), prompt=named, words=concept)
    set_widgets(prompt, find(prompt, "CLIPTextEncode", "Prompt: concept"), text=named)
    set_widgets(prompt, find(prompt, "CLIPTextEncode", "Prompt: keep"), text=other)
    return prompt


def set_family(prompt: dict[str, Any], family: str) -> None:
    """The workflow on the miniature of a family, sampled as that one is."""
    set_widgets(prompt, find(prompt, "EraseAnythingTinyFlux"), family=family)
    for node_id, node in prompt.items():
        if node["class_type"] == "KSampler":
            set_widgets(prompt, node_id, cfg=MINIATURES[family].cfg)


def find(prompt: dict[str, Any], class_type: str, title: str = "") -> str:
    """The id of the one node of this class, and of this title where one is given."""
    found = [
        node_id
        for node_id, node in prompt.items()
        if node["class_type"] == class_type and title in ("", node["_meta"]["title"])
    ]
    if len(found) != 1:
        what = f"{class_type} '{title}'" if title else class_type
        raise ValueError(f"{WORKFLOW.name} has {len(found)} nodes {what}, expected one.")
    return found[0]


def set_widgets(prompt: dict[str, Any], node_id: str, /, **values: str | float) -> None:
    inputs = prompt[node_id]["inputs"]
    for name in values.keys() - inputs.keys():
        raise ValueError(
            f"{prompt[node_id]['class_type']} has no input '{name}', expected {list(inputs)}."
        )
    inputs |= values


def follow(server: Server, prompt: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """Runs the workflow; what its nodes showed, and the seconds that training took."""
    begun: list[tuple[str, float]] = []  # each node at work, and when it began
    bar = tqdm(leave=False, disable=None)  # none where the output is no terminal

    def on_progress(progress: Progress) -> None:
        if not begun or begun[-1][0] != progress.node_id:
            begun.append((progress.node_id, time.monotonic()))
            bar.reset()
            bar.set_description(prompt[progress.node_id]["_meta"]["title"])
        bar.total = progress.maximum or None
        bar.update(progress.value - bar.n)

    with bar:
        shown = server.run(prompt, on_progress)
    seconds = dict.fromkeys(prompt, 0.0)
    ends = [at for _, at in begun[1:]] + [time.monotonic()]
    for (node_id, at), end in zip(begun, ends, strict=True):
        seconds[node_id] += end - at
        say(f"  {prompt[node_id]['_meta']['title']}: {end - at:.1f} s")
    return shown, seconds[find(prompt, "EraseAnythingTrain")]


def keep_files(server: Server, prompt: dict[str, Any], shown: dict[str, Any], lora: Path) -> None:
    """Copies attention sheet, loss curve and LoRA out of the server's folders."""
    for node_id, name in (
        (find(prompt, "SaveImage", "Attention"), "attention.png"),
        (find(prompt, "LossGraphNode"), "loss_curve.png"),
    ):
        shutil.copy(server.files(shown[node_id])[0], OUTPUT / name)
    shutil.copy(lora, OUTPUT)


def sheet_rows(concept: str, erase: Drawn, keep: Drawn) -> list[Row]:
    """Four rows: prompts that name the concept and prompts that don't, each before and after."""
    return [
        Row(opened(drawn.pictures[model][:PICTURES_IN_ROW]), [f"{heading}, {when}"])
        for heading, drawn in ((f"prompts with {concept}", erase), ("other prompts", keep))
        for when, model in (("before", "base"), ("after", "erased"))
    ]


def opened(files: Sequence[Path]) -> list[Image.Image]:
    """The pictures of these files."""
    return [Image.open(file).convert("RGB") for file in files]


def summary(concept: str, figures: Figures, seconds: float, forwards: int) -> str:
    return (
        f"erased {concept}: found in {figures.found:.1%} of pictures "
        f"(base {figures.base_found:.1%}); everything else {figures.kept:.1%} "
        f"(base {figures.base_kept:.1%}); {seconds:.0f} s training, {forwards} forwards"
    )


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    main()
