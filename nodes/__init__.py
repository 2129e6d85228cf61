"""The nodes of ComfyUI-EraseAnything."""

from comfy_api.latest import ComfyExtension, io

from .apply import ApplyErasure
from .attention import AttentionPreview
from .erase import EraseConcept
from .tiny import LoadTinyFlux


class EraseAnythingExtension(ComfyExtension):
    """What ComfyUI asks for this pack's nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [EraseConcept, ApplyErasure, AttentionPreview, LoadTinyFlux]
