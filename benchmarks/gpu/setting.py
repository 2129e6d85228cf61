"""How large everything is, and where it runs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.model_patcher
import torch

from ..full_width import DEPTH, SINGLES, build

TARGETS = "text_in_pooled"
Rows = Iterator[dict[str, Any]]


@dataclass(frozen=True)
class Setting:
    """How large everything is."""

    device: torch.device
    depth: int = DEPTH
    singles: int = SINGLES
    pixels: tuple[int, ...] = (512, 1024)
    batches: tuple[int, ...] = (1, 2, 4)

    @classmethod
    def rehearsal(cls) -> Setting:
        return cls(torch.device("cpu"), depth=1, singles=1, pixels=(64,), batches=(1, 2))

    @property
    def on_gpu(self) -> bool:
        return self.device.type == "cuda"

    def wait(self) -> None:
        """Until the device has done all that it was given."""
        if self.on_gpu:
            torch.cuda.synchronize(self.device)

    def forget_peak(self) -> None:
        if self.on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def peak(self) -> int:
        """Bytes, the most at a time since `forget_peak`; 0 where nobody counts."""
        return torch.cuda.max_memory_allocated(self.device) if self.on_gpu else 0

    def room(self) -> int:
        return comfy.model_management.get_total_memory(self.device)

    def model(self, depth: int, singles: int, dtype: str) -> Any:
        """A Flux of FLUX.1's width that waits in the computer's memory."""
        built = build(depth, singles, dtype)
        return comfy.model_patcher.ModelPatcher(built.model, self.device, torch.device("cpu"))
