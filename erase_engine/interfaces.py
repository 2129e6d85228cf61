"""What a flow model must offer so that the engine can erase a concept from it.

Shapes: B samples, C latent channels, (h, w) latent size, T text tokens, D text width, P pooled
width, H heads, L image tokens, J concept tokens.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Conditioning:
    """The text a model sees: per-token features and one pooled vector for each prompt."""

    text: Tensor  # (B, T, D)
    pooled: Tensor  # (B, P)

    def __post_init__(self) -> None:
        if self.text.ndim != 3 or self.pooled.ndim != 2 or len(self.text) != len(self.pooled):
            raise ValueError(
                f"Got text {tuple(self.text.shape)} and pooled {tuple(self.pooled.shape)}, "
                "expected (B, T, D) and (B, P) with one B. Encode both from the same prompts."
            )

    def __len__(self) -> int:
        return len(self.text)

    def take(self, index: Sequence[int] | Tensor) -> Conditioning:
        """The rows at `index`, in that order."""
        rows = torch.as_tensor(index, device=self.text.device)
        return Conditioning(self.text[rows], self.pooled[rows])

    @staticmethod
    def cat(parts: Sequence[Conditioning]) -> Conditioning:
        """One batch out of several; all must have one text length."""
        return Conditioning(
            torch.cat([part.text for part in parts]), torch.cat([part.pooled for part in parts])
        )


@dataclass
class AttentionCapture:
    """Asks `FlowModel.velocity` for the attention mass that image queries give to text tokens.

    `tokens` is (B, J), indices of text tokens, -1 where a sample has fewer than J. Blocks are
    numbered from 0, those of one stream after the double ones.
    After the call `mass[block]` is (B, H, L, J): the softmax over all keys, read at those tokens
    (0 where the index is -1), with a graph where gradients are on. With `outputs`,
    `likeness[block]` is (B, L, J): how alike the attention outputs of image and text are there.
    Without `masses` there is no mass, which is the dearer of the two.
    """

    tokens: Tensor
    blocks: tuple[int, ...]
    outputs: bool = False
    masses: bool = True
    mass: dict[int, Tensor] = field(default_factory=dict)
    likeness: dict[int, Tensor] = field(default_factory=dict)

    def put(self, block: int, found: Sequence[Tensor]) -> None:
        """Keeps what a block found of what was asked for: its mass, its likeness."""
        asked = ((self.masses, self.mass), (self.outputs, self.likeness))
        kept = [by_block for wanted, by_block in asked if wanted]
        for by_block, each in zip(kept, found, strict=True):
            by_block[block] = each


@dataclass(frozen=True)
class LinearSlice:
    """Rows `start : start + length` of the output of one Linear: what one canonical name means."""

    module: nn.Module
    start: int
    length: int
    in_features: int


class Adapters(Protocol):
    """Low-rank adapters on rows of frozen Linears; the teacher is the model with them off."""

    rank: int
    alpha: float

    def parameters(self) -> list[nn.Parameter]: ...
    def state_dict(self) -> dict[str, Tensor]: ...
    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...
    def attach(self, slices: Mapping[str, LinearSlice]) -> AbstractContextManager[Any]: ...
    def disabled(self) -> AbstractContextManager[None]: ...


class FlowModel(Protocol):
    """A rectified flow model with frozen weights. Latents are unpacked, in model space."""

    device: torch.device
    dtype: torch.dtype  # compute dtype of the forward pass
    double_blocks: int  # how many joint (double stream) blocks there are
    single_blocks: int  # how many blocks of one stream follow them
    latent_channels: int

    def velocity(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, *, capture: AttentionCapture | None = None
    ) -> Tensor:
        """v(x_t, t, cond), (B, C, h, w) float32; t is (B,) in [0, 1] and 1 is pure noise."""
        ...

    def timesteps(self, steps: int, height: int, width: int) -> Tensor:
        """The model's own sampling times for `steps` Euler steps: (steps + 1,), from 1 to 0.

        `height` and `width` are latent sizes: some models shift time with resolution.
        """
        ...

    def linear_slices(self, names: Iterable[str]) -> dict[str, LinearSlice]:
        """Canonical (diffusers) layer names to rows of this model's Linears.

        Raises ValueError, naming the layer, where the model has no such layer.
        """
        ...

    def adapters(self, slices: dict[str, LinearSlice], **numbers: Any) -> Adapters:
        """New adapters for these slices; `numbers` are `LoraSet`'s keyword arguments."""
        ...


class TextEncoder(Protocol):
    """The loaded text encoder, as far as planning and training need it."""

    max_tokens: int  # tokens beyond this one are not seen by the model

    def token_ids(self, text: str) -> list[int]:
        """Ids of the text's own tokens, in order: no padding, no end mark."""
        ...

    def encode(self, prompts: Sequence[str]) -> Conditioning:
        """Features of each prompt, padded to one length."""
        ...
