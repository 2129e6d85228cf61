"""Attention Map Preview."""

from __future__ import annotations

import re
from typing import Any

import torch
from comfy_api.latest import io, ui

from ..erase_engine.backends.base import Conditioning
from ..erase_engine.config import PIXELS_PER_LATENT, EraseConfig
from ..erase_engine.maps import (
    VIEWS,
    AttentionMaps,
    Look,
    attention_maps,
    default_blocks,
    words_to_look_for,
)
from ..erase_engine.sentence import contains, shortened, words_of
from .heatmap import Sheet, draw_sheet
from .host import (
    CATEGORY,
    decode,
    encoder_for,
    ordinary_tensors,
    require_flux,
    require_flux_vae,
    sampling_progress,
    training_session,
)
from .page_maps import page_maps
from .widgets import advanced, checked_resolution, lines, lines_of, resolution, seed, text

GUIDANCE = EraseConfig().guidance  # what erasures are trained with
Found = dict[str, AttentionMaps]  # by model: "before", "after"


class AttentionPreview(io.ComfyNode):
    """Where the model looks for each word, before and after an erasure."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EraseAnythingAttention",
            display_name="Attention Map Preview",
            category=CATEGORY,
            description="Draws where in the picture the model looks for each word. With a second, "
            "erased model: before, after and difference, on one colour scale.",
            inputs=[*_inputs(), *_view_inputs()],
            is_output_node=True,
            outputs=[
                io.Image.Output("IMAGE", tooltip="The sheet of maps."),
                io.String.Output("masses", tooltip="Each word's mean over the picture, in words."),
            ],
        )

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        prompt: str,
        words: str,
        erased: Any = None,
        vae: Any = None,
        view: str = VIEWS[0],
        contrast: str = "",
        blocks: str = "",
        **sampling: Any,
    ) -> io.NodeOutput:
        models = {"before": model} if erased is None else {"before": model, "after": erased}
        _check(list(models.values()), vae, sampling["resolution"])
        cond, look = _look(clip, model, prompt, words, view=view, contrast=contrast, blocks=blocks)
        on_step = sampling_progress(len(models) * sampling["steps"])
        found = {
            name: _maps(each, cond, look, on_step=on_step, **sampling)
            for name, each in models.items()
        }
        pictures = {} if vae is None else {n: decode(vae, m.latent) for n, m in found.items()}
        names = [word.name for word in look.words]
        maps = {name: each.maps for name, each in found.items()}
        image = draw_sheet(Sheet(prompt, names, maps, pictures, UNITS[look.view]))
        shown = {
            **ui.PreviewImage(image, cls=cls).as_dict(),
            "eraseanything_maps": [page_maps(look, found, pictures, prompt)],
        }
        return io.NodeOutput(image, _figures(look, found), ui=shown)


UNITS = {"training signal": "a place's attention", "saliency": "a place, among the words compared"}


def _check(models: list[Any], vae: Any, resolution: int) -> None:
    """Raises ValueError, naming the input, before any work."""
    for model in models:
        require_flux(model)
    if vae is not None:
        require_flux_vae(vae)
    checked_resolution(resolution)


def _look(
    clip: Any, model: Any, prompt: str, words: str, *, view: Any, contrast: str, blocks: str
) -> tuple[Conditioning, Look]:
    """The prompt as the model reads it, and what to look at meanwhile."""
    double_blocks = len(model.model.diffusion_model.double_blocks)
    chosen = _blocks(blocks, double_blocks) or default_blocks(view, double_blocks)
    names, others = _words_in(prompt, "words", words), _words_in(prompt, "contrast", contrast)
    with ordinary_tensors():
        encoder = encoder_for(clip)
        found = words_to_look_for(
            encoder, prompt, names or words_of(prompt), view=view, contrast=others
        )
        return encoder.encode([prompt]), Look(found, view, chosen)


def _words_in(prompt: str, field: str, text: str) -> list[str]:
    """A field's lines; ValueError for one that is not in the prompt, or a prompt without words."""
    if not words_of(prompt):
        raise ValueError(
            f"Got the prompt '{prompt}', expected at least one word. Write what shall be drawn."
        )
    names = list(dict.fromkeys(lines_of(text)))
    for name in names:
        if not contains(prompt, [name]):
            raise ValueError(
                f"Got '{shortened(name)}' in {field}, which is not in the prompt "
                f"'{shortened(prompt)}'. Write words as they stand there, or leave {field} empty."
            )
    return names


def _blocks(text: str, count: int) -> tuple[int, ...]:
    """Block numbers out of "3, 9-18"; ValueError for what is no block of the model."""
    parts = [re.fullmatch(r"(\d+)(?:-(\d+))?", part) for part in re.split(r"[,\s]+", text.strip())]
    spans = [(int(part[1]), int(part[2] or part[1])) for part in parts if part]
    if text.strip() and not (all(parts) and all(a <= b < count for a, b in spans)):
        raise ValueError(
            f"Got blocks '{shortened(text)}', expected numbers from 0 to {count - 1}, such as '0' "
            f"or '0-{count - 1}'. Name double blocks that this model has, or leave it empty."
        )
    return tuple(sorted({number for a, b in spans for number in range(a, b + 1)}))


def _maps(
    model: Any, cond: Any, look: Look, *, steps: int, seed: int, resolution: int, on_step: Any
) -> AttentionMaps:
    side = resolution // PIXELS_PER_LATENT
    with training_session(model, guidance=GUIDANCE) as backend:
        noise = torch.randn(
            1,
            backend.latent_channels,
            side,
            side,
            generator=torch.Generator().manual_seed(seed),
        )
        times = backend.timesteps(steps, side, side)
        return attention_maps(backend, cond, look, noise=noise, times=times, on_step=on_step)


def _figures(look: Look, found: Found) -> str:
    """A line for each word: its mean, and for saliency what it was held against."""
    rows = []
    for index, word in enumerate(look.words):
        means = [f"{when} {maps.means[index]:.2%}" for when, maps in found.items()]
        against = ", ".join(other.name for other in word.contrast)
        rows.append(f"{word.name}: {', '.join(means)}{against and f' (against {against})'}")
    return "\n".join(rows)


def _inputs() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="The model to look into."),
        io.Clip.Input("clip", tooltip="The text encoders that belong to it."),
        lines("prompt", "The prompt that is drawn meanwhile."),
        lines("words", "Words of the prompt to look at, one a line. Empty: every word."),
        *sampling_inputs(),
        io.Model.Input(
            "erased", optional=True, tooltip="The same model with an erasure, to compare."
        ),
        io.Vae.Input("vae", optional=True, tooltip="Shows the pictures beside the maps."),
    ]


def sampling_inputs() -> list[Any]:
    """How a picture is drawn for a look at it."""
    return [
        io.Int.Input("steps", default=20, min=1, max=200, tooltip="Sampling steps."),
        seed("Seed of the picture."),
        resolution("Width and height of the picture, in pixels; 128 for the tiny Flux."),
    ]


def _view_inputs() -> list[Any]:
    """Optional, so that workflows from before they came still run."""
    return [
        io.Combo.Input(
            "view",
            options=list(VIEWS),
            default=VIEWS[0],
            optional=True,
            tooltip="training signal: the attention that an erasure pushes down. saliency: which "
            "of the words a place belongs to, from what attention puts out; sharper.",
        ),
        advanced(
            lines(
                "contrast",
                "For saliency: words of the prompt to hold each word against, one a line, at "
                "least two. Empty: the words outside its own phrase.",
                optional=True,
            )
        ),
        advanced(
            text(
                "blocks",
                "Double blocks to look into, such as 9-18. Empty: all for the training signal, "
                "the later half for saliency.",
                optional=True,
            )
        ),
    ]
