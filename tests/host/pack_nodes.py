"""The pack's nodes by their ids, and what the host reads off them."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import execution
import numpy
import server
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


CACHE = {"lru": 0, "ram": 0, "ram_inactive": 0}  # as without options
ENDS = ["preview", "watched", "train"]  # ids of nodes to run to, where a prompt has them


class Host:
    """The host's own server, queue and executor in this process, with our nodes; no socket."""

    def __init__(self, **cache: Any) -> None:
        self.loop = asyncio.new_event_loop()
        running = server.PromptServer(self.loop)
        self.queue = running.prompt_queue = execution.PromptQueue(running)
        self.executor = execution.PromptExecutor(running, **{"cache_args": CACHE, **cache})
        self.number = 0

    def run(self, prompt: dict[str, Any]) -> None:
        """As the host's worker does it."""
        self.number += 1
        item = (self.number, f"run {self.number}", prompt, {}, ENDS, {})
        self.queue.put(item)
        taken, item_id = self.queue.get()
        self.executor.execute(taken[2], taken[1], taken[3], [n for n in taken[4] if n in prompt])
        assert self.executor.success, self.executor.status_messages
        status = None
        self.queue.task_done(item_id, self.executor.history_result, status)
