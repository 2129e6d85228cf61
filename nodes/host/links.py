"""What stands where another node's output should: a program may write anything into a prompt."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ...erase_engine.validation import told


def check_links(needed: Mapping[str, Any], **optional: Any) -> None:
    """Raises ValueError for an input that JSON can say: the host hands it on as it is."""
    there = {name: value for name, value in optional.items() if value is not None}
    for name, value in {**needed, **there}.items():
        try:
            json.dumps(value)
        except TypeError:
            continue  # a model, tensors, ...
        raise ValueError(
            f"Got {told(value)} for {name}, expected what another node gives. Connect one to it."
        )
