"""The nodes of ComfyUI-EraseAnything."""

from comfy_api.latest import ComfyExtension, io

from .attention.preview import AttentionPreview
from .attention.watch import WatchAttention, WatchedAttention
from .demo import LoadTinyFlux
from .host.page import add_route
from .lora.apply import ApplyErasure
from .lora.merge import MergeErasures
from .report.prompt_list import DrawPromptList
from .report.report import ErasureReport
from .training.erase import EraseConcept
from .training.plan import PlanConcept

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
            DrawPromptList,
            LoadTinyFlux,
        ]
