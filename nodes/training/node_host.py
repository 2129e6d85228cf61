"""What a training needs of ComfyUI."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...erase_engine.backends.comfy.model import (
    ComfyFlowModel,
    latent_grid,
    model_description,
    supported_family,
)
from ...erase_engine.concepts.plan import ConceptPlan
from ...erase_engine.concepts.vocabulary import Vocabulary
from ...erase_engine.config import EraseConfig
from ...erase_engine.interfaces import FlowModel, TextEncoder
from ...erase_engine.lora.adapters import adapted_layers
from ...erase_engine.lora.metadata import figures_in_words
from ...erase_engine.lora.stopped import remove_stopped, stopped_name
from ...erase_engine.memory import MemoryEstimate, described
from ...erase_engine.training.cost import streamed_in_words
from ...erase_engine.training.disk import DiskNeed
from ...erase_engine.training.encoded_prompts import EncodedPrompts
from ...erase_engine.training.loop import Erasure, OnStep, StepReport
from ...erase_engine.training.run import Needs, Trained
from ...erase_engine.training.states.pictures import check_pictures_count
from ..host.encode import encoder_for, ordinary_tensors, vocabulary_of
from ..host.progress import sampling_progress, step_progress
from ..host.session import training_session
from ..host.vae import decode_while_training, encode, require_vae_of
from ..lora.files import lora_name, save_cover, save_erasure
from ..lora.schedule import require_always_on
from .events import TrainingEvents
from .interruption import note_of_unfinished
from .memory_check import check_room, left_behind, needed, packed_in_words
from .previews import Previews, Scene

NO_PREVIEWS = "No pictures while it trains: connect a VAE to see them."


@dataclass
class NodeHost:
    """`training.run.Host` of a node: its inputs, the host's models and the page.

    Raises ValueError, naming the input, before any work.
    """

    model: Any
    clip: Any
    vae: Any
    config: EraseConfig
    stem: Path  # of the LoRA's file
    live: TrainingEvents
    preview_every: int  # steps; 0 draws none
    keep_images: Any = None  # IMAGE
    memory: MemoryEstimate | None = field(default=None, init=False)
    notes: tuple[str, ...] = field(default=(), init=False)  # of the plan
    previews: Previews | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        family = supported_family(self.model)
        joint = family.comfy.joint_blocks(self.model.model.diffusion_model)
        family.target_names(self.config.lora.targets, joint)  # some families lack some sets
        require_always_on(self.model)
        with ordinary_tensors():
            encoder_for(self.clip, self.model)
        if self.vae is not None:
            require_vae_of(self.model, self.vae)
        if self.keep_images is not None:
            check_pictures_count(self.config)
            if self.vae is None:
                raise ValueError(
                    "Got keep_images without a vae, expected the model's own, which encodes them. "
                    "Connect one to vae, or leave keep_images out: the model then draws what is to "
                    "be kept."
                )

    @property
    def vocabulary(self) -> Vocabulary:
        return vocabulary_of(self.clip)

    @property
    def cfg(self) -> float:
        return ComfyFlowModel(self.model, guidance=self.config.guidance).cfg

    @property
    def dtype(self) -> torch.dtype:
        return ComfyFlowModel(self.model).dtype

    def progress(self, total: int) -> Callable[[], None]:
        return sampling_progress(total)

    @contextmanager
    def text_encoder(self) -> Iterator[TextEncoder]:
        with ordinary_tensors():
            yield encoder_for(self.clip, self.model)

    def keep_pictures(self) -> Tensor | None:
        if self.keep_images is None:
            return None
        size = self.config.height, self.config.width
        with ordinary_tensors():
            on_picture = self.progress(len(self.keep_images))
            pictures = self.keep_images.clone()  # the host's are of inference mode
            return encode(self.model, self.vae, pictures, size, on_picture=on_picture)

    @property
    def path(self) -> Path:
        return self.stem

    def prepare(self, plan: ConceptPlan, encoded: EncodedPrompts) -> Needs:
        config = self.config.for_concepts(encoded.concepts)
        backend = ComfyFlowModel(self.model)
        backend.linear_slices(adapted_layers(backend, config))  # says where no LoRA can be put
        self.memory, self.notes = needed(self.model, encoded, config), plan.notes
        check_room(self.model, self.memory)
        latents = latent_grid(self.model)
        family = supported_family(self.model)
        warned = (
            f"{family.name} is experimental. {family.experimental} " if family.experimental else ""
        )
        words = [
            warned + described(self.memory, config, latents, text_bytes=encoded.nbytes),
            packed_in_words(self.model),
        ]
        if left := left_behind(self.model, self.memory):
            words.append(streamed_in_words(left, encoded, config, guided=self.cfg != 1))
        said = " ".join(filter(None, words))
        return Needs(said, DiskNeed.of(self.memory, config, latents))

    def session(self) -> AbstractContextManager[FlowModel]:
        assert self.memory is not None
        reserved = self.memory.beside_weights
        guidance = self.config.guidance
        return training_session(self.model, guidance=guidance, memory_required=reserved)

    def watch(self, model: FlowModel, plan: ConceptPlan, encoded: EncodedPrompts) -> OnStep:
        """Shows each step; and pictures every `preview_every` steps, once solved, at the end.

        Raises ValueError where another node on the MODEL is in the way of a gradient.
        """
        if self.config.steps and isinstance(model, ComfyFlowModel):
            model.require_gradient(encoded.concept.prompts[0])
        progress, every, live = step_progress(), self.preview_every, self.live
        scene = Scene.of(plan, encoded, self.config, model.latents)
        reserved = self.memory.beside_weights if self.memory else 0
        decode = partial(decode_while_training, self.model, self.vae, memory_required=reserved)
        previews = self.previews = Previews(model, scene, decode) if every else None

        def on_step(report: StepReport) -> None:
            live.step(report)
            progress(report)
            step = report.losses and previews and (report.last or report.step % every == 0)
            if previews and (step or report.stage == "solved"):
                live.preview(previews.compare(), report.step)

        return on_step

    def save(self, erasure: Erasure, plan: ConceptPlan, *, step: int | None = None) -> Path:
        """Beside the LoRAs, so that a stopped one can be tried: `star_step60_00001.safetensors`."""
        stem = self.stem
        if step is not None:
            stem = stem.with_name(stopped_name(stem.name, step))
        base_model = model_description(self.model)
        path = save_erasure(stem, erasure, plan=plan, config=self.config, base_model=base_model)
        if step is None:
            remove_stopped(self.stem, path)
            if self.previews:
                save_cover(path, self.previews.cover())
        return path

    def say(self, text: str) -> None:
        without = [NO_PREVIEWS] if self.vae is None else []
        self.live.say("\n".join([*self.notes, *without, text]))  # what asks for something first

    def stopped(self, saved: Path | None) -> None:
        self.live.saved = lora_name(saved) if saved else ""


def report_of(trained: Trained) -> str:
    """What was done, in words and figures."""
    erasure = trained.erasure
    lines = [
        f"Saved as {lora_name(trained.path)}",
        trained.plan.describe(),
        figures_in_words(erasure.figures),
        *trained.notes,
        note_of_unfinished(),
        trained.needs,
    ]
    return "\n".join(line for line in lines if line)
