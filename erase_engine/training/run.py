"""A whole training, in one order for every program: from a wish to a LoRA file."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from ..concepts.plan import ConceptPlan
from ..concepts.planner import MOST_COMPARED, plan_concept
from ..concepts.request import ConceptRequest
from ..concepts.vocabulary import Vocabulary
from ..config import EraseConfig
from ..interfaces import FlowModel, TextEncoder
from ..validation import shortened
from .checkpoint import Checkpoint
from .cost import cost_in_words
from .disk import DiskNeed, check_disk
from .encoded_prompts import EncodedPrompts, encode_prompts, needed_by
from .loop import Erasure, OnStep, steps_in, train_erasure


@dataclass(frozen=True)
class Needs:
    """What a training will need."""

    words: str
    disk: DiskNeed


class Host(Protocol):
    """What differs between the programs that train: one for a node, one for the command line."""

    @property
    def vocabulary(self) -> Vocabulary:
        """The words that prompts are planned with."""
        ...

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in, and text features are kept in."""
        ...

    @property
    def cfg(self) -> float:
        """`FlowModel.cfg`; asked once `prepare` is done."""
        ...

    def progress(self, total: int) -> Callable[[], None]:
        """What to call after each of so many texts; it may raise to cancel."""
        ...

    def text_encoder(self) -> AbstractContextManager[TextEncoder]:
        """The encoders, loaded; after the `with` their memory may be used otherwise."""
        ...

    def keep_pictures(self) -> Tensor | None:
        """(N, C, h, w) latents, in model space, of a person's pictures to keep; None for none."""
        ...

    @property
    def path(self) -> Path:
        """The LoRA's file; a number may be added to its name."""
        ...

    def prepare(self, plan: ConceptPlan, encoded: EncodedPrompts) -> Needs:
        """What the training will need; ValueError where the machine hasn't got it."""
        ...

    def session(self) -> AbstractContextManager[FlowModel]:
        """The model, loaded and ready for exact gradients; afterwards as it was before."""
        ...

    def watch(self, model: FlowModel, plan: ConceptPlan, encoded: EncodedPrompts) -> OnStep:
        """Called in the session; what it returns shows each step, and raises to cancel."""
        ...

    def save(self, erasure: Erasure, plan: ConceptPlan, *, step: int | None = None) -> Path:
        """Writes the LoRA's file; one that was stopped has its last step in its name."""
        ...

    def say(self, text: str) -> None:
        """Shows words to people."""
        ...

    def stopped(self, saved: Path | None) -> None:
        """Tells of the LoRA so far, once it is saved; None where there is none."""
        ...


SOFT = (
    "It is soft: nothing was hardened, and a small change of the text features brings the concept "
    "back. The recipe fast hardens it."
)
TRAINED = (
    "The text's entrance alone can't tell the concept from what is to stay, so layers behind it "
    "were trained."
)
# Times the first loss; last losses; a loss. Those of single samples differ tenfold by themselves.
DIVERGED, AVERAGED, SMALLEST = 100, 5, 1e-2


@dataclass(frozen=True)
class Trained:
    """What a training has made."""

    plan: ConceptPlan
    erasure: Erasure
    path: Path
    needs: str  # of memory and passes, in words
    notes: tuple[str, ...]  # why it ended, and what a person has to know of the LoRA


def run_training(
    host: Host,
    wanted: ConceptRequest | ConceptPlan,
    config: EraseConfig,
    *,
    checkpoint: Checkpoint,
) -> Trained:
    """Plans, encodes, says what it needs, trains, saves, and clears what was kept for resuming.

    Whatever stops the training, its LoRA so far is saved; what stopped it is what rises.
    """
    plan, encoded = _planned(host, wanted, config)
    encoded = replace(encoded, pictures=host.keep_pictures())
    needed = host.prepare(plan, encoded)
    check_disk(host.path, needed.disk.lora)
    cost = cost_in_words(encoded, config, guided=host.cfg != 1)
    needs = " ".join(filter(None, [cost, needed.words, checkpoint.short_of(needed.disk)]))
    host.say(needs)
    generator = torch.Generator().manual_seed(config.seed)
    try:
        with host.session() as model:
            erasure = train_erasure(
                model,
                encoded,
                config,
                generator=generator,
                on_step=host.watch(model, plan, encoded),
                checkpoint=checkpoint,
            )
    except BaseException:  # cancelling is no Exception on newer hosts
        _save_so_far(host, plan, checkpoint)
        raise
    if not config.steps:
        _require_solved(erasure, plan, checkpoint)
    path = host.save(erasure, plan)
    checkpoint.clear()
    return Trained(plan, erasure, path, needs, _notes(erasure, config))


def _require_solved(erasure: Erasure, plan: ConceptPlan, checkpoint: Checkpoint) -> None:
    """ValueError where a closed form alone would take what is to stay along with the concept."""
    if not erasure.solved:
        checkpoint.clear()  # it would end here again
        raise ValueError(
            f"Got '{shortened(plan.concept)}', which the text's entrance alone can't tell from "
            f"what is to stay ({erasure.unsolved:.0%} of the change is left), expected a concept "
            "that it can. Choose the recipe fast, which trains the layers behind it."
        )


def _notes(erasure: Erasure, config: EraseConfig) -> tuple[str, ...]:
    """Why it ended, whether it is soft, whether it diverged, and warnings, in words."""
    warnings = (*_divergence(erasure.history.get("esd", [])), *erasure.warnings)
    if config.solver != "solve":
        return (*filter(None, [erasure.ended]), *warnings)
    if not config.steps:
        return (SOFT, *warnings)
    ended = erasure.ended or f"It ended at its limit of {steps_in(erasure.history)} steps."
    return (*([] if erasure.solved else [TRAINED]), ended, *warnings)


def _divergence(losses: list[float]) -> list[str]:
    """A sentence where the loss of erasing has grown out of all proportion."""
    at_the_end = losses[-AVERAGED:]
    last = sum(at_the_end) / max(len(at_the_end), 1)
    if not losses or last <= DIVERGED * max(losses[0], SMALLEST):
        return []
    return [
        f"It diverged: the loss of erasing went from {losses[0]:.3g} to {last:.3g}, so the LoRA is "
        "of no use. Lower learning_rate, rank or negative guidance."
    ]


def _planned(
    host: Host, wanted: ConceptRequest | ConceptPlan, config: EraseConfig
) -> tuple[ConceptPlan, EncodedPrompts]:
    """The plan in words, and as the model reads it."""
    with host.text_encoder() as encoder:
        if isinstance(wanted, ConceptPlan):
            plan = wanted.located(encoder)
        else:
            on_text = host.progress(MOST_COMPARED)
            plan = plan_concept(wanted, encoder, vocabulary=host.vocabulary, on_text=on_text)
        given = {"dtype": host.dtype, "progress": host.progress}
        return plan, encode_prompts(plan, encoder, **needed_by(config), **given)


def _save_so_far(host: Host, plan: ConceptPlan, checkpoint: Checkpoint) -> None:
    """Saves a stopped training's LoRA; that it can't be saved is told, and hides nothing."""
    last = checkpoint.latest
    try:
        path = None
        if last and last.step:
            so_far = Erasure(last.lora, last.history, last.forwards)
            path = host.save(so_far, plan, step=last.step)
        host.stopped(path)
    except Exception:
        logging.getLogger(__name__).exception("The LoRA of a stopped training could not be saved.")
