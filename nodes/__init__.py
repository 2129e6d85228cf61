"""The nodes of ComfyUI-EraseAnything."""

from comfy_api.latest import ComfyExtension, io

from .apply import ApplyErasure
from .attention import AttentionPreview
from .erase import EraseConcept
from .live import add_route
from .merge import MergeErasures
from .plan import PlanConcept
from .report import ErasureReport
from .tiny import LoadTinyFlux
from .watch import WatchAttention, WatchedAttention

add_route()  # as the host loads the pack: 0.3.75 calls no `on_load`


class EraseAnythingExtension(ComfyExtension):
    """What ComfyUI asks for this pack's nodes."""

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            EraseConcept,
            PlanConcept,
            ApplyErasure,
            MergeErasures,
            AttentionPreview,
            WatchAttention,
            WatchedAttention,
            ErasureReport,
            LoadTinyFlux,
        ]
