"""What a LoRA file says of its own making: enough to train it again."""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from .. import __version__
from ..concepts.plan import ConceptPlan
from ..config import EraseConfig
from ..families.registry import described_family
from ..validation import UNREADABLE, shortened

FORMAT_VERSION = "1"
SPEC = "modelspec.sai_model_spec"
# For people.
LOSS_NAMES = {"esd": "erase", "rsc": "contrast", "multiplier": "keep weight", "attack": "holds"}


def erasure_metadata(
    figures: Mapping[str, Any],
    plan: ConceptPlan,
    config: EraseConfig,
    *,
    base_model: str,
    host: Mapping[str, str],
) -> dict[str, Any]:
    """The metadata of an erasure's file.

    Args:
        figures: what the training came to, as `Erasure.figures`.
        base_model: the model's kind and size in words; a loader compares it with its own.
        host: name and version of the program that ran the model.
    """
    return _record(plan.concept, base_model, host) | {
        "plan": plan.to_json(),
        "config": config.to_json(),
        "figures": dict(figures),
    }


def figures_in_words(figures: Mapping[str, Any]) -> str:
    """What `Erasure.figures` holds, for people; KeyError, TypeError or ValueError for others."""
    losses = ", ".join(
        f"{LOSS_NAMES.get(name, name)} {value:.3g}"
        for name, value in dict(figures["last_losses"]).items()
    )
    steps = figures["steps"]
    did = f"{steps:d} steps, {figures['forwards']:,} forward passes of one picture"
    if not steps:
        return "solved, without a step"
    return f"{did}; losses at the end: {losses}" if losses else did


def concept_of(record: Mapping[str, str]) -> str:
    """What a LoRA erases, in a line."""
    return shortened(record.get("concept", "?"))


def merged_metadata(
    records: Sequence[Mapping[str, str]],
    strengths: Sequence[float],
    *,
    method: str,
    host: Mapping[str, str],
) -> dict[str, Any]:
    """The metadata of a file that several were merged into: all of theirs, and how.

    Raises ValueError where they were made for different models.
    """
    models = list(dict.fromkeys(record.get("base_model", "") for record in records))
    if len(models) > 1:
        told = [shortened(each).strip() or "one without a name" for each in models]
        raise ValueError(
            f"Got LoRAs for different models ({'; '.join(told)}), expected one "
            "model's. Merge only LoRAs that were trained for the same model."
        )
    concept = " + ".join(concept_of(record) for record in records)
    parts = [
        {"strength": strength, **{key: one for key, one in record.items() if not of_manager(key)}}
        for record, strength in zip(records, strengths, strict=True)
    ]
    return _record(concept, models[0], host) | {"merged": parts, "method": method}


def plans_in(record: Mapping[str, str]) -> tuple[ConceptPlan, ...]:
    """The plan that a LoRA was trained with; those of all its parts where it was merged.

    Raises ValueError where the record is of another make.
    """
    try:
        if "plan" in record:
            return (ConceptPlan.from_json(record["plan"]),)
        parts = json.loads(record.get("merged", "[]"))
        return tuple(plan for part in parts for plan in plans_in(part))
    except UNREADABLE as error:
        raise ValueError(
            f"Got a record of what was merged or planned that can't be read "
            f"({shortened(str(error))}), expected what this pack wrote. Choose method sum, which "
            "needs none."
        ) from error


def of_manager(key: str) -> bool:
    """Whether a key of a file's metadata is written for LoRA managers."""
    return key.startswith(("modelspec.", "ss_"))


def _for_managers(concept: str, base_model: str) -> dict[str, str]:
    """What LoRA managers read, by modelspec and by kohya's names; `save_lora` adds sizes and hash.

    There is no date: the same inputs give the same file.
    """
    family = described_family(base_model)
    if family is None:
        return {}
    return {
        SPEC: "1.0.0",
        "modelspec.architecture": f"{family.architecture}/lora",
        "modelspec.implementation": "diffusers",
        "modelspec.title": f"Erase {shortened(concept)}",
        "modelspec.description": f"Makes {family.name} unable to draw: {shortened(concept)}.",
        "ss_base_model_version": family.version,
        "ss_network_module": "networks.lora",
    }


def _record(concept: str, base_model: str, host: Mapping[str, str]) -> dict[str, Any]:
    return {
        **_for_managers(concept, base_model),
        "format": "eraseanything",
        "format_version": FORMAT_VERSION,
        "base_model": base_model,
        "concept": concept,
        "versions": {
            "eraseanything": __version__,
            **host,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
