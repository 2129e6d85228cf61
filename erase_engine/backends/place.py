"""Where a model that nobody has placed runs, and in which numbers."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..validation import check_choice

DTYPES = ("bfloat16", "float16", "float32")


@dataclass(frozen=True)
class Place:
    """A device of this machine, and the numbers that the model has on it."""

    device: torch.device
    dtype: torch.dtype

    @classmethod
    def named(cls, device: str, dtype: str) -> Place:
        """As asked for, else ("") a GPU in bfloat16 where there is one; ValueError for no such."""
        name = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if dtype:
            check_choice("dtype", dtype, DTYPES)
        try:
            found = torch.empty(0, device=name).device
        except (RuntimeError, AssertionError) as error:
            why = str(error).splitlines()[0]
            raise ValueError(
                f"Got the device {name!r} ({why}), expected one of this machine, such as cuda, "
                "cuda:1 or cpu. Correct device, or leave it out."
            ) from error
        dtype = dtype or ("float32" if found.type == "cpu" else "bfloat16")
        return cls(found, getattr(torch, dtype))

    def in_words(self) -> dict[str, str]:
        """What pictures may differ by, a little: the kind of device, and the numbers."""
        return {"device": self.device.type, "dtype": str(self.dtype).removeprefix("torch.")}
