"""LoRA files made one by a closed form that is solved anew, from the plans in their records."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...erase_engine.backends.comfy.model import ComfyFlowModel, model_description
from ...erase_engine.backends.comfy.text_encoder import ComfyTextEncoder
from ...erase_engine.concepts.joining import joined
from ...erase_engine.concepts.plan import ConceptPlan
from ...erase_engine.config import EraseConfig
from ...erase_engine.training.encoded_prompts import EncodedPrompts, encode_prompts, needed_by
from ...erase_engine.training.loop import train_erasure
from ..host.encode import encoder_for, ordinary_tensors
from ..host.progress import sampling_progress
from ..host.session import training_session
from .slots import Part

INSTANT = EraseConfig.from_recipe("instant")


def solve_parts(parts: Sequence[Part], model: Any, clip: Any) -> tuple[dict[str, Tensor], str]:
    """The recipe instant's LoRA for all that the files erase, and what making it took, in words.

    Raises ValueError, before any work, for a strength that is not 1, a file without a plan or
    without held sentences, another model's, and one that was made with other text encoders. Raises
    the host's exception where the user cancels.
    """
    for part in parts:
        _check_part(part, model)
    with ordinary_tensors():
        encoder = encoder_for(clip, model)
        plan = joined([each for part in parts for each in _plans_for(part, encoder)])
        encoded = encode_prompts(
            plan,
            encoder,
            **needed_by(INSTANT),
            dtype=ComfyFlowModel(model).dtype,
            progress=sampling_progress,
        )
        with training_session(model) as backend:
            state = _solved(backend, encoded)
    return state, (
        f"Solved for {len(plan.pairs)} prompt pairs, with {len(plan.keep) + len(plan.held)} "
        "sentences held, by no pass of the model."
    )


def _solved(backend: ComfyFlowModel, encoded: EncodedPrompts) -> dict[str, Tensor]:
    """The closed form's state; ValueError where too much of the change is left."""
    generator = torch.Generator().manual_seed(0)
    erasure = train_erasure(backend, encoded, INSTANT, generator=generator)
    if not erasure.solved:
        raise ValueError(
            "Got concepts that the text's entrance alone can't tell from what is to stay "
            f"({erasure.unsolved:.0%} of the change is left), expected at most "
            f"{INSTANT.entrance.most_unsolved:.0%}. Choose method fuse, or erase them together."
        )
    return erasure.state


def _check_part(part: Part, model: Any) -> None:
    made_for, given = part.record.get("base_model"), model_description(model)
    if part.strength != 1:
        raise ValueError(
            f"Got strength {part.strength:g} for {part.name} with method solve, expected 1: what "
            "its file erases is solved anew. Set 1, or choose method fuse."
        )
    if not all(plan.held for plan in part.plans):
        raise ValueError(
            f"Got {part.name} without sentences that are held, expected some in its record, as "
            "all but phrases have. Choose method fuse, or erase anew what is no phrase."
        )
    if made_for != given:
        raise ValueError(
            f"Got {part.name}, which was made for {made_for}, with a model that is {given}, "
            "expected one and the same. Connect the model that it was made for."
        )


def _plans_for(part: Part, encoder: ComfyTextEncoder) -> list[ConceptPlan]:
    """The file's plans; ValueError where this encoder has other tokens for their words."""
    for plan in part.plans:
        if plan.located(encoder) != plan:
            raise ValueError(
                f"Got {part.name}, whose words are other tokens for this clip, expected the text "
                "encoders that it was made with. Connect those to clip."
            )
    return [*part.plans]
