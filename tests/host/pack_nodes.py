"""The pack's nodes by their ids, and what the host reads off them."""

from __future__ import annotations

from typing import Any

from eraseanything_pack.nodes.attention.preview import AttentionPreview
from eraseanything_pack.nodes.attention.watch import WatchAttention, WatchedAttention
from eraseanything_pack.nodes.demo import LoadTinyFlux
from eraseanything_pack.nodes.lora.apply import ApplyErasure
from eraseanything_pack.nodes.lora.merge import MergeErasures
from eraseanything_pack.nodes.report.prompt_list import DrawPromptList
from eraseanything_pack.nodes.report.report import ErasureReport
from eraseanything_pack.nodes.training.erase import EraseConcept
from eraseanything_pack.nodes.training.plan import PlanConcept

NODES = {
    node.define_schema().node_id: node
    for node in (
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
    )
}


def inputs_of(node: Any) -> dict[str, Any]:
    """name -> (type, options), as /object_info has them."""
    groups = node.INPUT_TYPES()
    return {**groups.get("required", {}), **groups.get("optional", {})}
