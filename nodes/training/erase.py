"""Erase Concept (Train LoRA)."""

from __future__ import annotations

from typing import Any

from comfy_api.latest import io

from ...erase_engine.training.run import run_training
from ..host.checked import checked
from ..host.page import sender, workflow_id
from ..host.patch_lora import apply_lora
from ..host.schema import node_schema
from ..lora.files import lora_name, lora_stem
from ..lora.slots import RecordedLora
from .events import training_events
from .inputs import (
    Planned,
    concept_inputs,
    config_of,
    model_inputs,
    optional_inputs,
    recipe_fault,
    request_of,
    training_inputs,
)
from .interruption import checkpoint_for
from .node_host import NodeHost, report_of
from .saved import remember, times_gone


class EraseConcept(io.ComfyNode):
    """Trains a LoRA that makes the model unable to draw a concept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return node_schema(
            node_id="EraseAnythingTrain",
            display_name="Erase Concept (Train LoRA)",
            search_aliases=[
                "unlearn",
                "remove concept",
                "forget",
                "concept erasure",
                "ESD",
                "censor",
            ],
            description="Makes a small LoRA with which a model (Flux, SD3.5, ...) can't draw a "
            "concept, and keeps the rest close to what it was. The model itself is not changed.",
            inputs=[*model_inputs(), *concept_inputs(), *training_inputs(), *optional_inputs()],
            hidden=[io.Hidden.extra_pnginfo],  # says which workflow's node the curves belong to
            is_output_node=True,  # it saves a file, whether or not its outputs are used
            outputs=[
                io.LoraModel.Output("LORA_MODEL", tooltip="For Apply Erasure LoRA."),
                io.LossMap.Output("LOSS_MAP", tooltip="For Plot Loss Graph."),
                io.Model.Output("MODEL", tooltip="The model with the erasure on."),
                io.String.Output("report", tooltip="What was done, in words and figures."),
            ],
        )

    @classmethod
    def validate_inputs(cls, recipe: Any = "fast") -> bool | str:
        """True, or what the page says of a recipe before anything runs."""
        return recipe_fault(recipe) or True

    @classmethod
    def fingerprint_inputs(cls, **inputs: Any) -> int:
        """Anew where the file of its last run is gone: "Saved as ..." would be no longer true."""
        return times_gone()

    @classmethod
    @checked
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any = None,
        plan: Planned | None = None,
        keep_images: Any = None,
        **widgets: Any,
    ) -> io.NodeOutput:
        with training_events(sender(workflow_id(cls.hidden))) as live:
            wanted, config = plan.plan if plan else request_of(widgets), config_of(widgets)
            stem = lora_stem(widgets["file_name"], wanted.concept)
            every = 0 if vae is None else widgets["preview_every"]
            host = NodeHost(
                *(model, clip, vae, config),
                stem=stem,
                live=live,
                preview_every=every,
                keep_images=keep_images,
            )
            checkpoint = checkpoint_for(stem, resume=widgets["resume"])
            trained = run_training(host, wanted, config, checkpoint=checkpoint)
            remember(trained.path)
            saved = f"Saved as {lora_name(trained.path)}."
            live.end("done", "\n".join([saved, *trained.plan.notes, *trained.notes]))
        report = report_of(trained)
        lora = RecordedLora.saved(trained.path, trained.erasure.state)
        erased, _ = apply_lora(model, lora, 1.0, name="the LoRA")
        # Without steps: what is left of the concept, before and after.
        loss = {"loss": trained.erasure.history.get("esd", [1.0, trained.erasure.unsolved])}
        shown = {"text": (report,), "eraseanything": [live.event()]}
        return io.NodeOutput(lora, loss, erased, report, ui=shown)
