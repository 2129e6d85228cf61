"""Watch Attention and Show Watched Attention: maps of the pictures that any sampler draws."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from comfy_api.latest import io
from comfy_execution.utils import get_executing_context
from torch import Tensor

from ...erase_engine.attention.maps import AttentionMaps
from ...erase_engine.attention.query import VIEWS
from ...erase_engine.attention.recorder import AttentionRecorder
from ...erase_engine.backends.comfy.model import latent_grid, supported_family
from ...erase_engine.flow import require_finite
from ...erase_engine.validation import shortened
from ..host.checked import checked, our_own
from ..host.page import running_graph
from ..host.schema import node_schema
from ..host.vae import decoded, require_vae
from ..host.widgets import lines
from .controls import maps_outputs, query_for, shown_maps, view_inputs, words_input
from .model_patch import watched

WatchType = our_own("ERASE_WATCH", AttentionRecorder)
SLOT = 2  # of that output
MOST_PICTURES = 4096  # of a batch
INPUTS = {"before": "latent", "after": "erased"}
Latent = Mapping[str, Any]  # of the host: "samples" (B, C, h, w)


class WatchAttention(io.ComfyNode):
    """A MODEL that is looked into while a sampler draws with it."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="EraseAnythingWatch",
            display_name="Watch Attention (Before Sampler)",
            search_aliases=["heatmap", "attention map", "record attention", "hook sampler"],
            description="Looks into the model while any sampler draws this prompt with it. "
            "Show Watched Attention shows what was seen; without one, nothing is watched.",
            inputs=[
                io.Model.Input(
                    "model", tooltip="The model to look into. It may be changed further afterwards."
                ),
                io.Clip.Input("clip", tooltip="The text encoders that belong to it."),
                lines("prompt", "The prompt to draw and to look at. Brackets are no weights here."),
                words_input(),
                *view_inputs(),
            ],
            outputs=[
                io.Model.Output("MODEL", tooltip="The same model, watched: for the sampler."),
                io.Conditioning.Output("CONDITIONING", tooltip="The prompt: for the sampler."),
                WatchType.Output(
                    "WATCH",
                    display_name="WATCH",
                    tooltip="What is seen: for Show Watched Attention.",
                ),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> bool:
        """Once somebody looks, the sampler has to draw again."""
        return _somebody_looks()

    @classmethod
    @checked
    def execute(
        cls,
        model: Any,
        clip: Any,
        prompt: str,
        words: str,
        view: str = VIEWS[0],
        contrast: str = "",
        blocks: str = "",
    ) -> io.NodeOutput:
        supported_family(model)
        both, look = query_for(
            clip, model, prompt, words=words, view=view, contrast=contrast, blocks=blocks
        )
        cond = both.take([0])
        watch = AttentionRecorder(prompt, cond.text, look, latent_grid(model))
        conditioning = [[cond.text, {"pooled_output": cond.pooled}]]
        patched = watched(model, watch) if _somebody_looks() else model
        return io.NodeOutput(patched, conditioning, watch)


class WatchedAttention(io.ComfyNode):
    """What was seen of a sampler's pictures."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="EraseAnythingWatched",
            display_name="Show Watched Attention (After Sampler)",
            search_aliases=["heatmap", "attention map", "recorded attention"],
            description="Draws where the model looked for each word while a sampler drew. With a "
            "second latent, of an erased model: before, after and difference, on one colour scale.",
            inputs=[
                WatchType.Input("watch", tooltip="Of Watch Attention."),
                io.Latent.Input("latent", tooltip="What the sampler gave that used its MODEL."),
                io.Int.Input(
                    "picture",
                    default=1,
                    min=1,
                    max=MOST_PICTURES,
                    tooltip="Which picture of a batch; 1 is the first.",
                ),
                io.Latent.Input(
                    "erased",
                    optional=True,
                    tooltip="What a second sampler gave, whose model has Watch Attention's MODEL "
                    "and an erasure on it, to compare.",
                ),
                io.Vae.Input("vae", optional=True, tooltip="Shows the pictures beside the maps."),
            ],
            is_output_node=True,
            outputs=maps_outputs(),
        )

    @classmethod
    @checked
    def execute(
        cls,
        watch: AttentionRecorder,
        latent: Latent,
        picture: int,
        erased: Latent | None = None,
        vae: Any = None,
    ) -> io.NodeOutput:
        if vae is not None:
            _, channels, *sides = latent["samples"].shape
            require_vae(vae, channels, len(sides))
        latents = {"before": latent["samples"]}
        if erased is not None:
            latents["after"] = erased["samples"]
        found = {when: _maps(watch, when, each, picture) for when, each in latents.items()}
        _require_one_size(found)
        ours = {when: each[picture - 1 : picture] for when, each in latents.items()}
        pictures = {} if vae is None else {when: decoded(vae, each) for when, each in ours.items()}
        count = len(latent["samples"])
        note = f"picture {picture} of {count}" if count > 1 else ""
        return shown_maps(cls, watch.look, found, pictures, watch.prompt, note=note)


def _somebody_looks() -> bool:
    """Whether a node of the running graph takes this node's WATCH; yes where none can tell."""
    context, graph = get_executing_context(), running_graph()
    if context is None or context.node_id not in graph:
        return True
    taken = [value for node in graph.values() for value in node.get("inputs", {}).values()]
    return [context.node_id, SLOT] in taken


def _maps(watch: AttentionRecorder, when: str, latent: Tensor, picture: int) -> AttentionMaps:
    """The maps of one picture of a latent (B, C, h, w); ValueError where there are none."""
    sampling = watch.found(require_finite(f"in {INPUTS[when]} a picture", latent))
    if sampling is None:
        raise ValueError(
            f"Got in {INPUTS[when]} what was not drawn with Watch Attention's MODEL, expected a "
            "sampler's own LATENT. Connect that MODEL to a sampler, and its LATENT here unchanged."
        )
    if picture > len(sampling):
        raise ValueError(
            f"Got picture {picture}, expected 1 to {len(sampling)}: so many are in "
            f"{INPUTS[when]}. Lower picture, or draw more of them."
        )
    maps = sampling.maps(picture - 1)
    if maps is None and sampling.drew(picture - 1):
        raise ValueError(
            f"Got in {INPUTS[when]} pictures of a model whose attention could not be seen, "
            "expected one whose blocks all call ComfyUI's own. Another node pack has replaced it "
            "(KJNodes: Patch Sage Attention) or leaves blocks out (a cache). Switch that off, and "
            "run this again."
        )
    if maps is None:
        raise ValueError(
            f"Got in {INPUTS[when]} pictures of another prompt, expected Watch Attention's "
            f"'{shortened(watch.prompt)}'. Connect its CONDITIONING to the sampler's positive."
        )
    return maps


def _require_one_size(found: Mapping[str, AttentionMaps]) -> None:
    shapes = {when: tuple(maps.steps.shape) for when, maps in found.items()}
    if len(set(shapes.values())) > 1:
        (steps, _, *size), (other_steps, _, *other_size) = shapes.values()
        raise ValueError(
            f"Got {steps} steps of {_by(size)} places before and {other_steps} of "
            f"{_by(other_size)} after, expected the same. Give both samplers the same settings."
        )


def _by(size: list[int]) -> str:
    return " x ".join(map(str, size))
