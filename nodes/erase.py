"""Erase Concept (Train LoRA)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from comfy_api.latest import io

from ..erase_engine.concept import KINDS, ConceptPlan, ConceptRequest, plan_concept
from ..erase_engine.config import RECIPES, EraseConfig, LoraConfig
from ..erase_engine.encoded import EncodedPlan, encode_plan
from ..erase_engine.lora import TARGETS
from ..erase_engine.lora_file import PREFIX
from ..erase_engine.train import Erasure, OnStep, StepReport, train_erasure
from .files import lora_name, lora_stem, save_erasure
from .host import (
    CATEGORY,
    apply_lora,
    base_model_of,
    checked_resolution,
    decode_while_training,
    encoder_for,
    ordinary_tensors,
    require_flux,
    require_flux_vae,
    step_progress,
    training_session,
    vocabulary_of,
)
from .live import Live, live_training, sender, workflow_id
from .preview import Previews, Scene
from .stopped import checkpoint_for, kept_when_stopped

FAST = EraseConfig.from_recipe("fast")
PlanType = io.Custom("ERASE_PLAN")  # a ConceptPlan on its way from Concept Plan


class EraseConcept(io.ComfyNode):
    """Trains a LoRA that makes the model unable to draw a concept."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="EraseAnythingTrain",
            display_name="Erase Concept (Train LoRA)",
            category=CATEGORY,
            description="Trains a small LoRA that makes a Flux model unable to draw a concept and "
            "leaves everything else as it was. The model itself is not changed.",
            inputs=[*_model_inputs(), *concept_inputs(), *_training_inputs(), *_optional_inputs()],
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
    def execute(
        cls,
        model: Any,
        clip: Any,
        vae: Any = None,
        plan: ConceptPlan | None = None,
        **widgets: Any,
    ) -> io.NodeOutput:
        with live_training(sender(workflow_id(cls.hidden))) as live:
            wanted, config = plan or request_of(widgets), _config(widgets)
            _check(model, vae)
            stem = lora_stem(widgets["file_name"], wanted.concept)
            plan, encoded = _encode(wanted, config, clip)
            save = partial(save_erasure, plan=plan, config=config, base_model=base_model_of(model))
            checkpoint = checkpoint_for(stem, resume=widgets["resume"])
            with (
                kept_when_stopped(checkpoint, live, stem, save),
                training_session(model, guidance=config.guidance) as backend,
            ):
                every = 0 if vae is None else widgets["preview_every"]
                decode = partial(decode_while_training, model, vae)
                draw_before = partial(Previews, backend, Scene.of(plan, encoded, config), decode)
                erasure = train_erasure(
                    backend,
                    encoded,
                    config,
                    generator=torch.Generator().manual_seed(config.seed),
                    on_step=_watch(live, draw_before, every),
                    checkpoint=checkpoint,
                )
            path = save(stem, erasure)
            checkpoint.clear()
            live.end("done", f"Saved as {lora_name(path)}")
        state = {PREFIX + key: tensor for key, tensor in erasure.state.items()}
        erased, _ = apply_lora(model, state, 1.0, name="the LoRA")
        report = _report(plan, erasure, lora_name(path))
        loss = {"loss": erasure.history["esd"]}
        shown = {"text": (report,), "eraseanything": [live.event()]}
        return io.NodeOutput(state, loss, erased, report, ui=shown)


def _check(model: Any, vae: Any) -> None:
    """Raises ValueError, naming the input, before any work."""
    require_flux(model)
    if vae is not None:
        require_flux_vae(vae)


def _encode(
    wanted: ConceptRequest | ConceptPlan, config: EraseConfig, clip: Any
) -> tuple[ConceptPlan, EncodedPlan]:
    """The plan in words, and as the model reads it."""
    with ordinary_tensors():
        encoder = encoder_for(clip)
        if isinstance(wanted, ConceptPlan):
            plan = wanted.located(encoder)
        else:
            plan = plan_concept(wanted, encoder, vocabulary=vocabulary_of(clip))
        return plan, encode_plan(plan, encoder, contrast=config.weights.rsc > 0)


def _watch(live: Live, draw_before: Callable[[], Previews], every: int) -> OnStep:
    """Shows each step, and pictures after every `every` steps and the last; 0 draws none."""
    progress = step_progress()
    previews = draw_before() if every else None
    live.begin()

    def on_step(report: StepReport) -> None:
        live.step(report)
        progress(report)
        due = every and report.step and (not report.step % every or report.step == report.total)
        if previews and due:
            live.preview(previews.compare(), report.step)

    return on_step


def _model_inputs() -> list[Any]:
    return [
        io.Model.Input("model", tooltip="FLUX.1 [dev] or [schnell], or the tiny Flux."),
        io.Clip.Input("clip", tooltip="The text encoders that belong to the model."),
    ]


def concept_inputs() -> list[Any]:
    return [
        io.String.Input(
            "concept",
            default="",
            dynamic_prompts=False,
            tooltip="What the model shall no longer draw, as you'd write it in a prompt.",
        ),
        io.Combo.Input(
            "kind",
            options=list(KINDS),
            default="object",
            tooltip="Decides in which sentences the concept is practised. Colours are styles.",
        ),
        io.String.Input(
            "replace_with",
            default="",
            dynamic_prompts=False,
            tooltip="What should appear instead. Empty: the planner chooses.",
        ),
        _lines("synonyms", "Other words for the concept, one a line or with commas; erased too."),
        _lines("keep", "Concepts or prompts that must not change, one a line."),
        _advanced(_lines("prompts", "Your own sentences with the concept, one a line.")),
    ]


def _lines(name: str, tooltip: str) -> Any:
    return io.String.Input(name, default="", multiline=True, dynamic_prompts=False, tooltip=tooltip)


def _training_inputs() -> list[Any]:
    return [
        io.Int.Input(
            "resolution",
            default=FAST.width,
            min=64,
            max=2048,
            step=16,
            tooltip="Width and height in pixels of what is trained on. 512 is enough for FLUX; "
            "128 for the tiny Flux.",
        ),
        io.Int.Input("steps", default=FAST.steps, min=1, max=10_000, tooltip="Training steps."),
        io.Int.Input(
            "seed",
            default=0,
            min=0,
            max=2**64 - 1,
            control_after_generate=False,
            tooltip="The same inputs and seed give the same file.",
        ),
        io.String.Input(
            "file_name",
            default="",
            dynamic_prompts=False,
            tooltip="The LoRA's name in models/loras; empty: EraseAnything/<concept>. "
            "A number is added, nothing is overwritten.",
        ),
        *map(_advanced, _expert_inputs()),
    ]


def _advanced(widget: Any) -> Any:
    """Folded away by hosts that can; as a keyword, 0.3.75 would refuse it."""
    widget.extra_dict = {"advanced": True}
    return widget


def _expert_inputs() -> list[Any]:
    return [
        io.Combo.Input(
            "recipe",
            options=[name for name in RECIPES if name != "ablate"],
            default="fast",
            tooltip="fast: ours. paper: the published weights. esd and gem: an erase loss alone.",
        ),
        io.Float.Input(
            "negative_guidance",
            default=FAST.negative_guidance,
            min=0.0,
            max=10.0,
            step=0.1,
            tooltip="How far past the replacement the model is pushed. 0 stops at it.",
        ),
        io.Int.Input("rank", default=FAST.lora.rank, min=1, max=256, tooltip="Rank of the LoRA."),
        io.Combo.Input(
            "targets",
            options=list(TARGETS),
            default=FAST.lora.targets,
            tooltip="Which layers are trained. text_qk: query and key of the text, as published.",
        ),
        io.Int.Input(
            "batch", default=FAST.batch, min=1, max=64, tooltip="Pictures in one training step."
        ),
        io.Int.Input(
            "preview_every",
            default=20,
            min=0,
            max=10_000,
            tooltip="Steps between two previews, where a VAE is connected; 0 draws none. "
            "They don't change the result.",
        ),
        io.Boolean.Input(
            "resume",
            default=True,
            tooltip="Goes on where this very training was cancelled; off: begins anew.",
        ),
    ]


def _optional_inputs() -> list[Any]:
    return [
        io.Vae.Input(
            "vae", optional=True, tooltip="Shows pictures before and after while it trains."
        ),
        PlanType.Input(
            "plan", optional=True, tooltip="From Concept Plan; used instead of the concept above."
        ),
    ]


def request_of(widgets: dict[str, Any]) -> ConceptRequest:
    return ConceptRequest.from_text(
        widgets["concept"],
        kind=widgets["kind"],
        replacement=widgets["replace_with"],
        synonyms=widgets["synonyms"],
        keep=widgets["keep"],
        prompts=widgets["prompts"],
        seed=widgets["seed"],
    )


def _config(widgets: dict[str, Any]) -> EraseConfig:
    recipe = RECIPES[widgets["recipe"]]
    lora = recipe.get("lora", FAST.lora)
    side = checked_resolution(widgets["resolution"])
    return EraseConfig.from_recipe(
        widgets["recipe"],
        negative_guidance=widgets["negative_guidance"],
        steps=widgets["steps"],
        batch=widgets["batch"],
        keep_per_step=widgets["batch"],
        width=side,
        height=side,
        seed=widgets["seed"],
        lora=LoraConfig(rank=widgets["rank"], targets=widgets["targets"], init=lora.init),
    )


def _report(plan: ConceptPlan, erasure: Erasure, name: str) -> str:
    last = {loss: values[-1] for loss, values in erasure.history.items()}
    losses = ", ".join(f"{loss} {value:.4f}" for loss, value in last.items())
    return (
        f"Saved as {name}\n{plan.describe()}\n"
        f"Last losses: {losses}\n{erasure.forwards} forward passes of one picture"
    )
