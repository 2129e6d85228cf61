"""Erasure Report: the same seeds before and after, and how far each picture has changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from comfy_api.latest import io, ui
from torch import Tensor

from ...erase_engine.backends.comfy.model import supported_family
from ...erase_engine.flow import require_finite
from ...erase_engine.prompt_list import seed_after
from ..attention.preview import sampling_inputs
from ..host.checked import checked
from ..host.encode import encoder_for, ordinary_tensors
from ..host.progress import sampling_progress
from ..host.schema import node_schema
from ..host.vae import decode, require_vae_of
from ..host.widgets import checked_resolution, lines, lines_of
from .drawing import Sampling
from .sheet import Pair, change_in_words, draw_report

WHAT_DIFFERS = (
    "0% is the same picture. How far pixels differ is no measure of what is gone: look at them."
)
ROLES = {"erase_prompts": "to erase", "keep_prompts": "to keep"}


class ErasureReport(io.ComfyNode):
    """What an erasure has changed, prompt by prompt."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="EraseAnythingReport",
            display_name="Erasure Report",
            search_aliases=["before and after", "compare models", "check erasure"],
            description="Draws prompts before and after an erasure, from the same seed, and says "
            "how far each picture has changed.",
            inputs=_inputs(),
            is_output_node=True,
            outputs=[
                io.Image.Output("IMAGE", tooltip="The pictures side by side."),
                io.String.Output("report", tooltip="How far each picture has changed."),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls,
        model: Any,
        erased: Any,
        clip: Any,
        vae: Any,
        clip_vision: Any = None,
        **widgets: Any,
    ) -> io.NodeOutput:
        for each in (model, erased):
            supported_family(each)
        require_vae_of(model, vae)
        sampling = Sampling(widgets["steps"], checked_resolution(widgets["resolution"]))
        prompts, pictures = _prompts(widgets), range(widgets.get("pictures", 1))
        with ordinary_tensors():
            cond = encoder_for(clip, model).encode([*(prompt for _, prompt in prompts), ""])
        *rows, unconditional = cond.prompts
        noises = [(row, seed_after(widgets["seed"], number)) for row in rows for number in pictures]
        on_step = sampling_progress(2 * len(noises) * sampling.steps)
        before, after = (
            [
                require_finite("a picture", decode(each, vae, latent)[0].float().cpu()).clamp(0, 1)
                for latent in sampling.latents(each, noises, unconditional, on_step)
            ]
            for each in (model, erased)
        )
        named = [each for each in prompts for _ in pictures]
        pairs = [
            Pair(role, prompt, one, other, _similarity(clip_vision, one, other))
            for (role, prompt), one, other in zip(named, before, after, strict=True)
        ]
        image, report = draw_report(pairs), describe(pairs)
        shown = {**ui.PreviewImage(image, cls=cls).as_dict(), "text": (report,)}
        return io.NodeOutput(image, report, ui=shown)


def _similarity(clip_vision: Any, one: Tensor, other: Tensor) -> float | None:
    """The cosine of two pictures' embeddings; None where no vision model is connected."""
    if clip_vision is None:
        return None
    embeddings = clip_vision.encode_image(torch.stack([one, other]))["image_embeds"].float()
    return torch.nn.functional.cosine_similarity(*embeddings, dim=0).item()


def _prompts(widgets: dict[str, Any]) -> list[tuple[str, str]]:
    """(role, prompt) of every line; ValueError where there is none."""
    found = [(role, line) for name, role in ROLES.items() for line in lines_of(widgets[name])]
    if not found:
        raise ValueError(
            "Got no prompts, expected at least one to erase or to keep. Write one a line."
        )
    return found


def describe(pairs: Sequence[Pair]) -> str:
    """A line for each prompt, each role's mean, and what the figures are."""
    lines = []
    for role in dict.fromkeys(pair.role for pair in pairs):
        mine = [pair for pair in pairs if pair.role == role]
        lines.append(f"{role}: pixels differ by {change_in_words(mine)} on average")
        for prompt in dict.fromkeys(pair.prompt for pair in mine):
            own = [pair for pair in mine if pair.prompt == prompt]
            lines.append(f"  {change_in_words(own)}  {prompt}")
    return "\n".join((*lines, WHAT_DIFFERS))


def _inputs() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="The model as it was."),
        io.Model.Input("erased", tooltip="The same model with the erasure."),
        io.Clip.Input("clip", tooltip="The text encoders that belong to it."),
        io.Vae.Input("vae", tooltip="Makes pictures of latents."),
        *(
            lines(name, f"Prompts whose pictures should {should}, one a line.")
            for name, should in (("erase_prompts", "change"), ("keep_prompts", "stay as they were"))
        ),
        *sampling_inputs(),
        io.Int.Input(
            "pictures",
            default=1,
            min=1,
            max=16,
            optional=True,
            tooltip="Pictures of each prompt: from seed, seed + 1, and so on.",
        ),
        io.ClipVision.Input(
            "clip_vision",
            optional=True,
            tooltip="A vision model that says how similar each picture still is, 1 for the same.",
        ),
    ]
