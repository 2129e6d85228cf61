"""Erase Concept (Train LoRA)."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import torch
from comfy_api.latest import io
from torch import Tensor

from ...erase_engine.backends.comfy.model import ComfyFlowModel, model_description, supported_family
from ...erase_engine.concepts.plan import ConceptPlan
from ...erase_engine.concepts.planner import MOST_COMPARED, plan_concept
from ...erase_engine.concepts.request import ConceptRequest
from ...erase_engine.config import EraseConfig
from ...erase_engine.interfaces import FlowModel
from ...erase_engine.lora.file import PREFIX
from ...erase_engine.memory import described
from ...erase_engine.training.checkpoint import Checkpoint
from ...erase_engine.training.encoded_prompts import EncodedPrompts, encode_prompts
from ...erase_engine.training.loop import (
    Erasure,
    OnStep,
    StepReport,
    save_on_interrupt,
    train_erasure,
)
from ...erase_engine.training.metadata import figures_in_words, figures_of
from ..host.encode import encoder_for, ordinary_tensors, vocabulary_of
from ..host.page import sender, workflow_id
from ..host.patch_lora import apply_lora
from ..host.progress import sampling_progress, step_progress
from ..host.session import training_session
from ..host.vae import decode_while_training, latent_channels, require_vae
from ..host.widgets import CATEGORY
from ..lora.files import lora_name, lora_stem, save_erasure
from .events import TrainingEvents, training_events
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
from .interruption import checkpoint_for, keeper
from .memory_check import check_room, needed
from .previews import Previews, Scene


class EraseConcept(io.ComfyNode):
    """Trains a LoRA that makes the model unable to draw a concept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EraseAnythingTrain",
            display_name="Erase Concept (Train LoRA)",
            category=CATEGORY,
            description="Trains a small LoRA that makes a Flux model unable to draw a concept and "
            "keeps the rest close to what it was. The model itself is not changed.",
            inputs=[*model_inputs(), *concept_inputs(), *training_inputs(), *optional_inputs()],
            hidden=[io.Hidden.extra_pnginfo],  # says which workflow's node the curves belong to
            is_output_node=True,  # it saves a file, whether or not its outputs are used
            outputs=[
                io.LoraModel.Output("LORA_MODEL", tooltip="For Apply Erasure LoRA."),
                io.LossMap.Output("LOSS_MAP", tooltip="For Plot Loss Graph."),
                io.Model.Output("MODEL", tooltip="The model with the erasure on."),
                io.String.Output(
                    "report", display_name="report", tooltip="What was done, in words and figures."
                ),
            ],
        )

    @classmethod
    def validate_inputs(cls, recipe: str = "fast") -> bool | str:
        """True, or what the page says of a recipe before anything runs."""
        return recipe_fault(recipe) or True

    @classmethod
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any = None,
        plan: Planned | None = None,
        **widgets: Any,
    ) -> io.NodeOutput:
        with training_events(sender(workflow_id(cls.hidden))) as live:
            config = config_of(widgets)
            _check(model, vae)
            wanted = plan.plan if plan else request_of(widgets)
            stem = lora_stem(widgets["file_name"], wanted.concept)
            made, encoded = _encode(wanted, config, clip, ComfyFlowModel(model).dtype)
            memory = needed(model, encoded, config)
            check_room(model, memory)
            needs = described(memory, config, latent_channels(model))
            live.say(needs)
            save = partial(
                save_erasure, plan=made, config=config, base_model=model_description(model)
            )
            checkpoint = checkpoint_for(stem, resume=widgets["resume"])
            every = 0 if vae is None else widgets["preview_every"]
            with save_on_interrupt(checkpoint, keeper(live, stem, save)):
                scene, decode = (
                    Scene.of(made, encoded, config, latent_channels(model)),
                    _decoder(model, vae, memory.beside_weights),
                )
                watch = partial(_watch, live=live, every=every, scene=scene, decode=decode)
                session = partial(
                    training_session,
                    model,
                    guidance=config.guidance,
                    memory_required=memory.beside_weights,
                )
                erasure = _train(session, encoded, config, watch=watch, checkpoint=checkpoint)
            path = save(stem, erasure)
            checkpoint.clear()
            live.end("done", f"Saved as {lora_name(path)}")
        state = {PREFIX + key: tensor for key, tensor in erasure.state.items()}
        erased, _ = apply_lora(model, state, 1.0, name="the LoRA")
        report = f"{_report(made, erasure, lora_name(path))}\n{needs}"
        loss = {"loss": erasure.history["esd"]}
        shown = {"text": (report,), "eraseanything": [live.event()]}
        return io.NodeOutput(state, loss, erased, report, ui=shown)


def _train(
    session: Callable[[], AbstractContextManager[FlowModel]],
    encoded: EncodedPrompts,
    config: EraseConfig,
    *,
    watch: Callable[[FlowModel], OnStep],
    checkpoint: Checkpoint,
) -> Erasure:
    with session() as backend:
        return train_erasure(
            backend,
            encoded,
            config,
            generator=torch.Generator().manual_seed(config.seed),
            on_step=watch(backend),
            checkpoint=checkpoint,
        )


def _decoder(model: Any, vae: Any, memory_required: int) -> Callable[[Tensor], Tensor]:
    return partial(decode_while_training, model, vae, memory_required=memory_required)


def _check(model: Any, vae: Any) -> None:
    """Raises ValueError, naming the input, before any work."""
    supported_family(model)
    if vae is not None:
        require_vae(vae, latent_channels(model))


def _encode(
    wanted: ConceptRequest | ConceptPlan, config: EraseConfig, clip: Any, dtype: torch.dtype
) -> tuple[ConceptPlan, EncodedPrompts]:
    """The plan in words, and as the model reads it, in its compute dtype.

    Shows its progress; raises where the user has cancelled.
    """
    with ordinary_tensors():
        encoder = encoder_for(clip)
        if isinstance(wanted, ConceptPlan):
            plan = wanted.located(encoder)
        else:
            on_text = sampling_progress(MOST_COMPARED)
            plan = plan_concept(wanted, encoder, vocabulary=vocabulary_of(clip), on_text=on_text)
        encoded = encode_prompts(
            plan,
            encoder,
            contrast=config.weights.rsc > 0,
            dtype=dtype,
            progress=sampling_progress,
        )
        return plan, encoded


def _watch(
    backend: FlowModel,
    *,
    live: TrainingEvents,
    every: int,
    scene: Scene,
    decode: Callable[[Tensor], Tensor],
) -> OnStep:
    """Shows each step, and pictures after every `every` steps and the last; 0 draws none."""
    progress = step_progress()
    previews = Previews(backend, scene, decode) if every else None
    live.begin()

    def on_step(report: StepReport) -> None:
        live.step(report)
        progress(report)
        due = every and report.step and (not report.step % every or report.step == report.total)
        if previews and due:
            live.preview(previews.compare(), report.step)

    return on_step


def _report(plan: ConceptPlan, erasure: Erasure, name: str) -> str:
    return f"Saved as {name}\n{plan.describe()}\n{figures_in_words(figures_of(erasure))}"
