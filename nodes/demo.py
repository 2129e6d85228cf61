"""Load Tiny Flux (demo): the miniature model that comes with the pack."""

from comfy_api.latest import io

from ..tinyworld.models import load_tiny_flux
from .host.widgets import CATEGORY


class LoadTinyFlux(io.ComfyNode):
    """MODEL, CLIP and VAE of the tiny world."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EraseAnythingTinyFlux",
            display_name="Load Tiny Flux (demo)",
            category=CATEGORY,
            description="A complete Flux in miniature, 128 x 128 pictures of coloured shapes: "
            "try everything in seconds, without a GPU and without a download.",
            inputs=[],
            outputs=[io.Model.Output("MODEL"), io.Clip.Output("CLIP"), io.Vae.Output("VAE")],
        )

    @classmethod
    def execute(cls) -> io.NodeOutput:
        return io.NodeOutput(*load_tiny_flux())
