"""Attention Map Preview."""

from __future__ import annotations

from typing import Any

import torch
from comfy_api.latest import io, ui

from ..erase_engine.concept import concept_tokens
from ..erase_engine.config import EraseConfig
from ..erase_engine.maps import AttentionMaps, attention_maps
from ..erase_engine.sentence import contains, shortened
from .heatmap import Sheet, draw_sheet
from .host import (
    CATEGORY,
    checked_resolution,
    decode,
    encoder_for,
    lines_of,
    ordinary_tensors,
    require_flux,
    require_flux_vae,
    sampling_progress,
    training_session,
)

PIXELS_PER_LATENT = 8
MARKS = ".,;:!?()[]{}'\""
GUIDANCE = EraseConfig().guidance  # what erasures are trained with


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
            inputs=_inputs(),
            is_output_node=True,
            outputs=[
                io.Image.Output("IMAGE", tooltip="The sheet of maps."),
                io.String.Output("masses", tooltip="Mean attention on each word, in per cent."),
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
        **sampling: Any,
    ) -> io.NodeOutput:
        models = {"before": model} if erased is None else {"before": model, "after": erased}
        _check(list(models.values()), vae, sampling["resolution"])
        names = _words_to_show(prompt, words)
        with ordinary_tensors():
            encoder = encoder_for(clip)
            tokens = [concept_tokens(encoder, prompt, [name]) for name in names]
            cond = encoder.encode([prompt])
        on_step = sampling_progress(len(models) * sampling["steps"])
        found = {
            name: _maps(each, cond, tokens, on_step=on_step, **sampling)
            for name, each in models.items()
        }
        pictures = {} if vae is None else {n: decode(vae, m.latent) for n, m in found.items()}
        image = draw_sheet(Sheet(prompt, names, {n: m.maps for n, m in found.items()}, pictures))
        text = _masses(names, found)
        return io.NodeOutput(image, text, ui=ui.PreviewImage(image, cls=cls))


def _check(models: list[Any], vae: Any, resolution: int) -> None:
    """Raises ValueError, naming the input, before any work."""
    for model in models:
        require_flux(model)
    if vae is not None:
        require_flux_vae(vae)
    checked_resolution(resolution)


def _words_to_show(prompt: str, words: str) -> list[str]:
    """The words asked for, or every word of the prompt once; ValueError where there is none."""
    every = {word.lower(): word for word in (part.strip(MARKS) for part in prompt.split()) if word}
    names = lines_of(words) or list(every.values())
    if not every:
        raise ValueError(
            f"Got the prompt '{prompt}', expected at least one word. Write what shall be drawn."
        )
    for name in names:
        if not contains(prompt, [name]):
            raise ValueError(
                f"Got '{shortened(name)}' in words, which is not in the prompt "
                f"'{shortened(prompt)}'. Write words as they stand there, or leave words empty."
            )
    return names


def _maps(
    model: Any, cond: Any, tokens: Any, *, steps: int, seed: int, resolution: int, on_step: Any
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
        return attention_maps(backend, cond, tokens, noise=noise, times=times, on_step=on_step)


def _masses(names: list[str], found: dict[str, AttentionMaps]) -> str:
    rows = []
    for index, name in enumerate(names):
        masses = [f"{when} {maps.masses[index]:.2%}" for when, maps in found.items()]
        rows.append(f"{name}: {', '.join(masses)}")
    return "\n".join(rows)


def _inputs() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="The model to look into."),
        io.Clip.Input("clip", tooltip="The text encoders that belong to it."),
        io.String.Input(
            "prompt",
            default="",
            multiline=True,
            dynamic_prompts=False,
            tooltip="The prompt that is drawn meanwhile.",
        ),
        io.String.Input(
            "words",
            default="",
            multiline=True,
            dynamic_prompts=False,
            tooltip="Words of the prompt to look at, one a line. Empty: every word.",
        ),
        io.Int.Input("steps", default=20, min=1, max=200, tooltip="Sampling steps."),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**64 - 1,
            control_after_generate=False,
            tooltip="Seed of the picture.",
        ),
        io.Int.Input(
            "resolution",
            default=512,
            min=64,
            max=2048,
            step=16,
            tooltip="Width and height of the picture, in pixels; 128 for the tiny Flux.",
        ),
        io.Model.Input(
            "erased", optional=True, tooltip="The same model with an erasure, to compare."
        ),
        io.Vae.Input("vae", optional=True, tooltip="Shows the pictures beside the maps."),
    ]
