"""The pack's nodes by their ids, and what the host reads off them."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy
import torch
from comfy.comfy_types import IO
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


class Anything:
    """Another pack's node, whose output goes into every input."""

    CATEGORY, FUNCTION, RETURN_TYPES = "test", "give", (IO.ANY,)
    value: ClassVar[Any] = None

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:
        return {}

    def give(self) -> tuple[Any]:
        return (self.value,)


GIVEN = (None, object(), numpy.float32("nan"), numpy.int64(-1), 2**64, 0, torch.ones(()))
GIVEN += tuple(torch.ones(shape) for shape in ((2,), (8, 8, 3), (0, 8, 8, 3), (1, 8, 8, 1)))
GIVEN += ({"samples": None}, {"samples": torch.ones(16, 8)}, {"a": torch.ones(2, 2)}, {"a": None})
