"""The example workflows: what stands in each, and how it is joined."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from workflow_canvas import Canvas, Column, Node, Output

SAMPLING = {"sampler_name": "euler", "scheduler": "simple", "steps": 20, "cfg": 1.0, "seed": 1}
TRAINING = 960  # height of the train node on the page once it shows curves and previews
MAPS, REPORT, PLAN, APPLY = 900, 900, 780, 410  # heights of nodes that show their result
STRENGTHS = (0.0, 0.5, 1.0)
VIEWS = ("training signal", "saliency")
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


STYLE_HELP = """\
# Erase a style

Press **Queue**. The miniature Flux unlearns *striped*: shapes stay, stripes go.

For a style choose *kind* **style**, and in **replace with** what should be there instead: here
*dotted*; for a painter's style *photo* is a good choice.

**Erasure Report** draws prompts that should change and prompts that should stay, from the same
seed, and says how far each picture has changed.
"""

STRENGTH_HELP = """\
# Apply an erasure, and compare strengths

Press **Queue**. One LoRA is trained, then put on the model three times: with strength 0, 0.5 and
1. All three draw the same prompt from the same seed.

With a file that you have already, take *Erase Concept* away and choose the **file** on each
*Apply Erasure LoRA*. Its **start** and **end** have an erasure on in a part of sampling only.
"""

INSIDE_HELP = """\
# Look inside with attention maps

Press **Queue**. Both nodes to the right look into the model while it draws, before and after an
erasure.

- **training signal**: the attention that an erasure pushes down. Did it take hold?
- **saliency**: which word a place belongs to. Where is the thing?

Point at a word on the node to see its map over the picture, and slide through the steps.

Below, your own samplers are looked at while they draw: **Watch Attention** stands before them,
**Watched Attention** after them.
"""

SEVERAL_HELP = """\
# Several concepts at once

Press **Queue**. Each **Concept Plan** shows what one concept is trained on: read it, change it. The
second one is *joined* to the first, so that one LoRA erases *star* and *striped*. Join more of
them for more concepts, and give *Erase Concept* more steps.

LoRAs that you have already? **Merge Erasure LoRAs** makes one file of several.
"""


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
    erased = applied(result, model, train["LORA_MODEL"])
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


def erase_style(canvas: Canvas) -> None:
    """Erase stripes, and report on prompts with and without them."""
    start, training, result = canvas.column(340), canvas.column(380), canvas.column(420)
    tiny = tiny_flux(start, STYLE_HELP)
    lora = trained(training, tiny, concept="striped", kind="style", replace_with="dotted")
    erased = applied(result, tiny["MODEL"], lora["LORA_MODEL"])
    to_erase = ("a striped red star", "a striped blue circle on a white background")
    report(result, tiny, erased, to_erase=to_erase, name="style report")
    canvas.group("Erase a style", start, training, result)


def apply_strengths(canvas: Canvas) -> None:
    """One erasure at three strengths, from one seed."""
    start, training = canvas.column(340), canvas.column(380)
    tiny = tiny_flux(start, STRENGTH_HELP)
    lora = trained(training, tiny, concept=CONCEPT)["LORA_MODEL"]
    clip, model = tiny["CLIP"], tiny["MODEL"]
    positive = start.add("CLIPTextEncode", title="Prompt", clip=clip, text=CONCEPT_PROMPT)
    negative = start.add("CLIPTextEncode", title="Nothing", clip=clip, text="")
    latent = start.add("EmptySD3LatentImage", width=128, height=128, batch_size=2)
    columns = [canvas.column(320) for _ in STRENGTHS]
    for column, strength in zip(columns, STRENGTHS, strict=True):
        erased = applied(column, model, lora, strength=strength)
        sampled = column.add(
            "KSampler",
            model=erased,
            positive=positive["CONDITIONING"],
            negative=negative["CONDITIONING"],
            latent_image=latent["LATENT"],
            **SAMPLING,
        )
        decoded = column.add("VAEDecode", samples=sampled["LATENT"], vae=tiny["VAE"])
        save(column, decoded["IMAGE"], f"strength {strength:g}", tall=380)
    canvas.group("Compare strengths", start, training, *columns)


def look_inside(canvas: Canvas) -> None:
    """Both views of attention, before and after an erasure."""
    start, training = canvas.column(340), canvas.column(380)
    tiny = tiny_flux(start, INSIDE_HELP)
    lora = trained(training, tiny, concept=CONCEPT)["LORA_MODEL"]
    erased = applied(start, tiny["MODEL"], lora)
    columns = [canvas.column(420) for _ in VIEWS]
    for column, view in zip(columns, VIEWS, strict=True):
        maps = column.add(
            "EraseAnythingAttention",
            title=view.capitalize(),
            model=tiny["MODEL"],
            clip=tiny["CLIP"],
            erased=erased,
            vae=tiny["VAE"],
            prompt=CONCEPT_PROMPT,
            resolution=128,
            view=view,
            tall=MAPS,
        )
        save(column, maps["IMAGE"], view, tall=300)
    _, below = canvas.group("Look inside", start, training, *columns)
    canvas.move_to(0, below)
    canvas.group("Look while samplers draw", *watched_samplers(canvas, tiny, lora))


def watched_samplers(canvas: Canvas, tiny: Node, lora: Output) -> list[Column]:
    """Two stock samplers, before and after an erasure, and what was seen of both."""
    texts, samplers, shown = canvas.column(340), canvas.column(380), canvas.column(420)
    watch = texts.add(
        "EraseAnythingWatch",
        model=tiny["MODEL"],
        clip=tiny["CLIP"],
        prompt=CONCEPT_PROMPT,
        words="red star\nbackground",
        view="saliency",
    )
    negative = texts.add("CLIPTextEncode", title="Nothing", clip=tiny["CLIP"], text="")
    latent = texts.add("EmptySD3LatentImage", width=128, height=128, batch_size=2)
    after = applied(samplers, watch["MODEL"], lora)
    drawn = [
        samplers.add(
            "KSampler",
            model=model,
            positive=watch["CONDITIONING"],
            negative=negative["CONDITIONING"],
            latent_image=latent["LATENT"],
            **SAMPLING,
        )["LATENT"]
        for model in (watch["MODEL"], after)
    ]
    maps = shown.add(
        "EraseAnythingWatched",
        watch=watch["WATCH"],
        latent=drawn[0],
        erased=drawn[1],
        vae=tiny["VAE"],
        tall=MAPS,
    )
    save(shown, maps["IMAGE"], "watched", tall=300)
    return [texts, samplers, shown]


def several_concepts(canvas: Canvas) -> None:
    """Two concepts of two kinds, planned one after the other, in one LoRA."""
    start, planning, training, result = (canvas.column(width) for width in (340, 380, 380, 420))
    tiny = tiny_flux(start, SEVERAL_HELP)
    shared = {"clip": tiny["CLIP"], "tall": PLAN}
    first = planning.add("EraseAnythingPlan", concept=CONCEPT, **shared)
    second = planning.add(
        "EraseAnythingPlan",
        join=first["ERASE_PLAN"],
        concept="striped",
        kind="style",
        replace_with="dotted",
        **shared,
    )
    lora = trained(training, tiny, plan=second["ERASE_PLAN"])["LORA_MODEL"]
    erased = applied(result, tiny["MODEL"], lora)
    to_erase = ("a red star on a white background", "a striped blue circle on a white background")
    report(result, tiny, erased, to_erase=to_erase, name="several report")
    canvas.group("Several concepts", start, planning, training, result)


def tiny_flux(column: Column, text: str) -> Node:
    """A note, and the miniature's loader."""
    column.note(text, tall=360)
    return column.add("EraseAnythingTinyFlux")


def trained(column: Column, tiny: Node, **inputs: object) -> Node:
    """A train node for the miniature."""
    return column.add(
        "EraseAnythingTrain",
        model=tiny["MODEL"],
        clip=tiny["CLIP"],
        vae=tiny["VAE"],
        resolution=128,
        tall=TRAINING,
        **inputs,
    )


def applied(column: Column, model: Output, lora: Output, *, strength: float = 1.0) -> Output:
    """The model with a freshly trained LoRA on."""
    node = column.add("EraseAnythingApply", model=model, lora=lora, strength=strength, tall=APPLY)
    return node["MODEL"]


def report(
    column: Column,
    tiny: Node,
    erased: Output,
    *,
    to_erase: Sequence[str],
    name: str,
) -> None:
    """A report on prompts to erase and on two to keep, and its sheet saved."""
    made = column.add(
        "EraseAnythingReport",
        model=tiny["MODEL"],
        erased=erased,
        clip=tiny["CLIP"],
        vae=tiny["VAE"],
        erase_prompts="\n".join(to_erase),
        keep_prompts=f"{KEEP_PROMPT}\na green ring on a black background",
        resolution=128,
        tall=REPORT,
    )
    save(column, made["IMAGE"], name, tall=480)


WORKFLOWS: dict[str, Callable[[Canvas], None]] = {
    "erase_object": erase_object,
    "erase_style": erase_style,
    "apply_strengths": apply_strengths,
    "look_inside": look_inside,
    "several_concepts": several_concepts,
}
