"""What a LoRA file says of its own making: enough to train it again."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from typing import Any

import torch

from . import __version__
from .concept import ConceptPlan
from .config import EraseConfig
from .train import Erasure

FORMAT_VERSION = "1"


def erasure_record(
    erasure: Erasure,
    plan: ConceptPlan,
    config: EraseConfig,
    *,
    base_model: str,
    host: Mapping[str, str],
) -> dict[str, Any]:
    """The metadata of an erasure's file.

    Args:
        base_model: the model's kind and size in words; a loader compares it with its own.
        host: name and version of the program that ran the model.
    """
    last = {name: values[-1] for name, values in erasure.history.items()}
    steps = max(map(len, erasure.history.values()))  # fewer than the config's where it was stopped
    return {
        "format": "eraseanything",
        "format_version": FORMAT_VERSION,
        "base_model": base_model,
        "concept": plan.concept,
        "plan": plan.to_json(),
        "config": config.to_json(),
        "figures": {"steps": steps, "forwards": erasure.forwards, "last_losses": last},
        "versions": {
            "eraseanything": __version__,
            **host,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
