"""What the engine asks of others: a flow model, a text encoder, adapters; and what they exchange.

Shapes: B samples, C latent channels, (h, w) latent size, T text tokens, D text width, P pooled
width, H heads, L image tokens, J watched tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

# --- text ----------------------------------------------------------------------------------------


@dataclass(frozen=True, eq=False)
class Prompt:
    """One prompt as the model reads it; rows of a `Conditioning` may share it."""

    text: Tensor  # (T, D) features of each token
    pooled: Tensor | None = None  # (P,) one vector of the whole prompt; None: the family has none

    def __post_init__(self) -> None:
        if self.text.ndim != 2 or (self.pooled is not None and self.pooled.ndim != 1):
            pooled = None if self.pooled is None else tuple(self.pooled.shape)
            raise ValueError(
                f"Got text {tuple(self.text.shape)} and pooled {pooled}, expected (T, D) and (P,). "
                "Give one prompt at a time; Conditioning.stacked takes a batch."
            )


@dataclass(frozen=True)
class Conditioning:
    """The text that B samples see: a prompt for each, of its own length."""

    prompts: tuple[Prompt, ...]

    @classmethod
    def stacked(cls, text: Tensor, pooled: Tensor | None = None) -> Conditioning:
        """From a batch of one length: text (B, T, D), pooled (B, P)."""
        paired = pooled is None or (pooled.ndim == 2 and len(text) == len(pooled))
        if text.ndim != 3 or not paired:
            got = None if pooled is None else tuple(pooled.shape)
            raise ValueError(
                f"Got text {tuple(text.shape)} and pooled {got}, "
                "expected (B, T, D) and (B, P) with one B. Encode both from the same prompts."
            )
        vectors = [None] * len(text) if pooled is None else pooled
        return cls(tuple(map(Prompt, text, vectors)))

    @classmethod
    def cat(cls, parts: Iterable[Conditioning]) -> Conditioning:
        """One batch out of several."""
        return cls(tuple(prompt for part in parts for prompt in part.prompts))

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, index: Iterable[int] | Tensor) -> Conditioning:
        """The rows at `index`, in that order; nothing is copied."""
        rows = index.tolist() if isinstance(index, Tensor) else index
        return Conditioning(tuple(self.prompts[row] for row in rows))

    @property
    def text(self) -> Tensor:
        """(B, T, D), where all prompts have one length."""
        return torch.stack([prompt.text for prompt in self.prompts])

    @property
    def pooled(self) -> Tensor | None:
        """(B, P); None where the family has no pooled vector."""
        vectors = [prompt.pooled for prompt in self.prompts if prompt.pooled is not None]
        return torch.stack(vectors) if vectors else None

    def by_length(self) -> Iterator[tuple[list[int], Conditioning]]:
        """The rows of each text length, and their prompts: a pass for each length is exact."""
        lengths = [len(prompt.text) for prompt in self.prompts]
        for length in dict.fromkeys(lengths):
            rows = [row for row, one in enumerate(lengths) if one == length]
            yield rows, self.take(rows)


@dataclass(frozen=True)
class TextPart:
    """A stretch of the model's text in which one tokenizer reads the whole prompt.

    All numbers but `ids` are positions in the model's text; together they are the stretch.
    """

    ids: tuple[int, ...]  # of the prompt's own tokens
    places: tuple[int, ...]  # where each of them stands
    marks: tuple[int, ...]  # of tokens that every prompt has, its end's first
    padding: tuple[int, ...]
    head: tuple[int, ...] = ()  # of what a chat says before the prompt: in all texts the same

    @property
    def order(self) -> Tensor:
        """All positions but the head's: the prompt's own, the marks', the padding's."""
        return torch.tensor([*self.places, *self.marks, *self.padding])


class TextEncoder(Protocol):
    """The loaded text encoder, as far as planning and training need it."""

    max_tokens: int  # tokens beyond this one are not seen by the model

    def token_ids(self, text: str) -> list[int]:
        """Ids of the text's own tokens, in order: no padding, no end mark."""
        ...

    def parts(self, text: str, length: int) -> tuple[TextPart, ...]:
        """Each part of a text that is `length` tokens long when it is encoded."""
        ...

    def positions(self, prompt: str, span: tuple[int, int] | None = None) -> tuple[int, ...]:
        """Positions in the model's text of the tokens of the characters `span`, rising.

        An encoder of several parts gives those of each part that reads the whole span: none where
        all parts cut it off. Without a span: of every token of the prompt that the model reads.
        """
        ...

    def vectors(
        self, texts: Sequence[str], *, on_text: Callable[[], None] = lambda: None
    ) -> Tensor:
        """(N, P) float32 on the CPU: a vector for each text, to compare meanings by.

        The pooled vector; in a family without one the mean over the text's tokens. Parts of the
        encoder that it does not need are not run. `on_text` may raise to cancel.
        """
        ...

    def encode(
        self,
        prompts: Sequence[str],
        *,
        dtype: torch.dtype = torch.float32,
        on_prompt: Callable[[], None] = lambda: None,
    ) -> Conditioning:
        """A row for each prompt, kept in `dtype`; equal texts share one.

        `on_prompt` is called after each distinct prompt and may raise to cancel.
        """
        ...


# --- attention -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class TokenSet:
    """Text tokens of B prompts whose attention is read; -1 fills a row that has fewer."""

    concept: Tensor  # (B, J) the concept's own
    context: Tensor  # (B, K) other tokens of the same prompt

    def take(self, rows: Tensor) -> TokenSet:
        """The prompts at `rows`, in that order."""
        return TokenSet(self.concept[rows], self.context[rows])

    @property
    def all(self) -> Tensor:
        """(B, J + K), the concept's first."""
        return torch.cat([self.concept, self.context], dim=1)

    def split(self, mass: Tensor) -> tuple[Tensor, Tensor]:
        """What was read at `all`, (..., J + K), as the concept's (..., J) and the rest (..., K)."""
        concept, context = mass.tensor_split([self.concept.shape[1]], dim=-1)
        return concept, context


@dataclass
class AttentionCapture:
    """Asks `FlowModel.velocity` for the attention mass that image queries give to text tokens.

    `tokens` is (B, J), indices of text tokens, -1 where a sample has fewer than J. Blocks are
    numbered from 0 in the order in which they run.
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


# --- the model and its adapters ------------------------------------------------------------------


Entering = Literal["text", "pooled"]  # every token, or the one vector of a prompt
PIXELS_PER_TOKEN = 16  # side of the square of a picture that is one image token, in every family


@dataclass(frozen=True)
class LatentGrid:
    """The latents of a model's pictures."""

    channels: int
    pixels: int = 8  # side of the square of a picture that one place of the grid stands for

    def shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of a picture of this size in pixels."""
        return self.channels, height // self.pixels, width // self.pixels

    def tokens(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of image tokens that a latent of this size becomes."""
        patch = PIXELS_PER_TOKEN // self.pixels
        return -(-height // patch), -(-width // patch)


@dataclass(frozen=True)
class LinearSlice:
    """Rows `start : start + length` of the output of one Linear: what one canonical name means."""

    module: nn.Module
    start: int
    length: int
    in_features: int


class Adapters(Protocol):
    """Low-rank adapters on rows of frozen Linears; with them off the model is the teacher."""

    def parameters(self) -> list[nn.Parameter]: ...

    def state_dict(self) -> dict[str, Tensor]: ...

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None: ...

    def attach(self, slices: Mapping[str, LinearSlice]) -> AbstractContextManager[Any]: ...

    def disabled(self) -> AbstractContextManager[None]: ...


class FlowModel(Protocol):
    """A rectified flow model with frozen weights. Latents are unpacked, in model space."""

    device: torch.device
    dtype: torch.dtype  # compute dtype of the forward pass
    blocks: int  # how many blocks there are whose attention can be captured
    joint_blocks: int  # how many of them, the first ones, have a stream of text of their own
    latents: LatentGrid
    cfg: float  # scale of classifier-free guidance on the way to a picture; 1: none

    @property
    def entrances(self) -> Mapping[str, Entering]:
        """Layers through which text comes in."""
        ...

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

    def entering(self, name: str, text: Tensor) -> Tensor:
        """What the entrance `name` is given for text features (N, n): some models norm them."""
        ...

    def target_names(self, target: str) -> list[str]:
        """Canonical (diffusers) names of the layers of a target set, such as "text_qk".

        Raises ValueError for a set that this family does not have.
        """
        ...

    def linear_slices(self, names: Iterable[str]) -> dict[str, LinearSlice]:
        """Canonical layer names to rows of this model's Linears.

        Raises ValueError, naming the layer, where the model has no such layer.
        """
        ...

    def adapters(self, slices: dict[str, LinearSlice], **numbers: Any) -> Adapters:
        """New adapters for these slices; `numbers` are `LoraSet`'s keyword arguments."""
        ...
