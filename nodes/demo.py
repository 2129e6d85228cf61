"""Load Tiny Model (demo): the miniatures that come with the pack."""

from comfy_api.latest import io

from ..erase_engine.validation import check_choice
from ..tinyworld.load import MINIATURES, load_tiny
from .host.checked import checked
from .host.schema import node_schema


class LoadTinyFlux(io.ComfyNode):
    """MODEL, CLIP and VAE of a miniature."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        names = list(MINIATURES)
        return node_schema(
            node_id="EraseAnythingTinyFlux",
            display_name="Load Tiny Model (demo)",
            search_aliases=["miniature", "test model", "demo"],
            description="A complete model in miniature, 128 x 128 pictures of coloured shapes, or "
            "of artists' drawings, persons and brands: try everything in seconds, without a GPU "
            "and without a download.",
            inputs=[
                io.Combo.Input(
                    "family",
                    options=names,
                    default=names[0],
                    optional=True,
                    tooltip="Which model it is a miniature of. Flux is sampled with cfg 1, SD3.5 "
                    f"with cfg {MINIATURES['SD3.5'].cfg:g}. The gallery draws subjects in "
                    "five artists' hands, persons and logos; the others draw shapes.",
                )
            ],
            outputs=[io.Model.Output("MODEL"), io.Clip.Output("CLIP"), io.Vae.Output("VAE")],
        )

    @classmethod
    @checked
    def execute(cls, family: str = next(iter(MINIATURES))) -> io.NodeOutput:
        check_choice("family", family, tuple(MINIATURES))
        return io.NodeOutput(*load_tiny(family))
