"""Concept Plan: what would be trained on, to be read and changed before it is."""

from __future__ import annotations

import json
from typing import Any

from comfy_api.latest import io

from ...erase_engine.concepts.plan import ConceptPlan
from ...erase_engine.concepts.planner import MOST_COMPARED, plan_together
from ...erase_engine.concepts.request import ConceptRequest
from ..host.checked import checked
from ..host.encode import encoder_for, ordinary_tensors, vocabulary_of
from ..host.progress import sampling_progress
from ..host.schema import node_schema
from ..host.widgets import lines, seed
from .inputs import Planned, PlanType, concept_inputs, request_of


class PlanConcept(io.ComfyNode):
    """From a concept to the prompts of its erasure."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="EraseAnythingPlan",
            display_name="Concept Plan",
            search_aliases=["unlearn", "prompts to erase", "several concepts"],
            description="Plans what Erase Concept will train on: prompts, what appears instead, "
            "what stays. Read it, change it, and connect it there.",
            inputs=[
                io.Clip.Input("clip", tooltip="The text encoders that belong to the model."),
                *concept_inputs(),
                seed("Which sentences are chosen; Erase Concept plans with its own seed."),
                lines(
                    "edited",
                    "A plan as JSON. Where it is not empty, it is the plan, and what stands above "
                    "is not used.",
                ),
                PlanType.Input(
                    "join",
                    optional=True,
                    tooltip="Another Concept Plan: one LoRA will erase its concepts and this one.",
                ),
            ],
            is_output_node=True,
            outputs=[
                PlanType.Output("plan", tooltip="For Erase Concept."),
                io.String.Output("text", tooltip="The plan in words."),
                io.String.Output(
                    "json",
                    tooltip="The whole plan, as the field edited takes it.",
                ),
            ],
        )

    @classmethod
    @checked
    def execute(
        cls, clip: Any, edited: str = "", join: Planned | None = None, **widgets: Any
    ) -> io.NodeOutput:
        with ordinary_tensors():
            encoder = encoder_for(clip)
            if edited.strip():
                planned = Planned((), ConceptPlan.from_json(edited).located(encoder))
            else:
                requests = (*_joined(join), request_of(widgets))
                plan = plan_together(
                    requests,
                    encoder,
                    vocabulary=vocabulary_of(clip),
                    on_text=sampling_progress(len(requests) * MOST_COMPARED),
                )
                planned = Planned(requests, plan)
        text = planned.plan.describe()
        whole = json.dumps(json.loads(planned.plan.to_json()), ensure_ascii=False, indent=1)
        shown = {"text": (text,), "eraseanything_plan": [whole]}
        return io.NodeOutput(planned, text, whole, ui=shown)


def _joined(join: Planned | None) -> tuple[ConceptRequest, ...]:
    """What was asked for before; ValueError where a person has written the plan instead."""
    if join is None:
        return ()
    if not join.requests:
        raise ValueError(
            "Got an edited plan to join, expected a planned one: its sentences may name this "
            "concept. Edit the last plan of the chain instead."
        )
    return join.requests
