"""Attention Map Preview."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...erase_engine.attention.maps import AttentionMaps, attention_maps
from ...erase_engine.attention.query import VIEWS, AttentionQuery
from ...erase_engine.backends.comfy.model import supported_family
from ...erase_engine.config import EraseConfig
from ...erase_engine.sampling import start_noise
from ..host.checked import checked
from ..host.progress import sampling_progress
from ..host.schema import node_schema
from ..host.session import training_session
from ..host.vae import decode, require_vae_of
from ..host.widgets import checked_resolution, lines, resolution, seed
from .controls import maps_outputs, query_for, shown_maps, view_inputs, words_input

GUIDANCE = EraseConfig().guidance  # what erasures are trained with


class AttentionPreview(io.ComfyNode):
    """Where the model looks for each word, before and after an erasure."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="EraseAnythingAttention",
            display_name="Attention Map Preview",
            search_aliases=["heatmap", "attention map", "saliency", "cross attention", "DAAM"],
            description="Draws where in the picture the model looks for each word. With a second, "
            "erased model: before, after and difference, on one colour scale.",
            inputs=[*_inputs(), *view_inputs()],
            is_output_node=True,
            outputs=maps_outputs(),
        )

    @classmethod
    @checked
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
        *,
        steps: int,
        seed: int,
        resolution: int,
    ) -> io.NodeOutput:
        models = {"before": model} if erased is None else {"before": model, "after": erased}
        _check(list(models.values()), vae, resolution)
        cond, look = query_for(
            clip, model, prompt, words=words, view=view, contrast=contrast, blocks=blocks
        )
        on_step = sampling_progress(len(models) * steps)
        sampling = {"steps": steps, "seed": seed, "resolution": resolution}
        found = {
            name: _maps(each, cond, look, on_step=on_step, **sampling)
            for name, each in models.items()
        }
        pictures = {
            name: decode(models[name], vae, maps.latent)
            for name, maps in found.items()
            if vae is not None
        }
        return shown_maps(cls, look, found, pictures, prompt)


def _check(models: list[Any], vae: Any, resolution: int) -> None:
    """Raises ValueError, naming the input, before any work."""
    for model in models:
        supported_family(model)
    if vae is not None:
        require_vae_of(models[0], vae)
    checked_resolution(resolution)


def _maps(
    model: Any,
    cond: Any,
    look: AttentionQuery,
    *,
    steps: int,
    seed: int,
    resolution: int,
    on_step: Any,
) -> AttentionMaps:
    with training_session(model, guidance=GUIDANCE) as backend:
        noise = start_noise(1, backend.latents.shape(resolution, resolution), seed=seed)
        times = backend.timesteps(steps, *noise.shape[-2:])
        return attention_maps(backend, cond, look, noise=noise, times=times, on_step=on_step)


def _inputs() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="The model to look into."),
        io.Clip.Input("clip", tooltip="The text encoders that belong to it."),
        lines("prompt", "The prompt that is drawn meanwhile."),
        words_input(),
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
        resolution("Width and height of the picture, in pixels; 128 for the tiny models."),
    ]
