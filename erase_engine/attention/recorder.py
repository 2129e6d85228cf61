"""Attention watched while others sample: what is seen, and which picture it belongs to."""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from einops import rearrange
from torch import Tensor

from ..interfaces import AttentionCapture, LatentGrid
from .maps import AttentionMaps
from .query import AttentionQuery

KEPT = 8  # samplings that a watch remembers, for graphs with several samplers
NEAR = 0.01  # of a latent's length: how far hosts may round it on its way


class RecordedSampling:
    """What is seen of the pictures of one sampling.

    A step is a time that the sampler asks the model about: some samplers ask twice at one time, or
    between two of their own steps. What is seen twice at one time is averaged.
    """

    def __init__(self, shape: torch.Size, latents: LatentGrid) -> None:
        self._shape = shape  # (B, C, h, w), or (B, C, 1, h, w)
        self._latents = latents
        self._seen = [defaultdict[float, list[Tensor]](list) for _ in range(shape[0])]
        self._asked: set[int] = set()
        self.latent = torch.zeros(shape)  # once it is sampled

    def __len__(self) -> int:
        """How many pictures there are."""
        return self._shape[0]

    def fits(self, x: Tensor) -> bool:
        """Whether a forward pass is about these pictures as a whole, not about parts of them."""
        return x.shape[2:] == self._shape[2:] and len(x) % len(self) == 0

    def add(
        self, look: AttentionQuery, capture: AttentionCapture, samples: list[int], time: float
    ) -> None:
        """Keeps what one forward pass has shown; `samples` are those of its batch watched.

        A cache may have left blocks out, in which case there is nothing to keep.
        """
        self._asked |= {sample % len(self) for sample in samples}
        if set(look.found(capture)) != set(look.blocks):
            return
        for at, sample in enumerate(samples):
            self._seen[sample % len(self)][time].append(look.maps(capture, at))

    def maps(self, picture: int) -> AttentionMaps | None:
        """The maps of one picture; None where its prompt was another one, or nothing was seen."""
        if not self._seen[picture]:
            return None
        steps = torch.stack(
            [torch.stack(each).mean(dim=0) for each in self._seen[picture].values()]
        )
        height, width = self._latents.tokens(*self._shape[-2:])
        places = steps[..., : height * width]  # pictures to refer to may follow
        grids = rearrange(places, "s w (y x) -> s w y x", y=height)
        return AttentionMaps(grids, self.latent[picture : picture + 1])

    def drew(self, picture: int) -> bool:
        """Whether the model was asked about this picture with the prompt."""
        return picture in self._asked


class AttentionRecorder:
    """What to look at wherever one prompt is drawn, and what was seen in the last few samplings."""

    def __init__(
        self, prompt: str, text: Tensor, look: AttentionQuery, latents: LatentGrid
    ) -> None:
        """`text` (1, T, D): the prompt's features, by which it is known; `latents`: the model's."""
        self.prompt, self.look, self.latents = prompt, look, latents
        self.now: RecordedSampling | None = None
        self._text = text[0]
        self._kept: deque[RecordedSampling] = deque(maxlen=KEPT)

    def samples_of(self, context: Tensor) -> list[int]:
        """Which samples of a batch have this prompt, by their text features (B, T, D).

        Their order tells nothing: guidance puts other prompts into the same batch. Other nodes may
        have put features of pictures behind the text, and models padding before it.
        """
        own = self._text.to(context)
        texts = context[:, : self.length], context[:, -self.length :]
        return [
            at
            for at, each in enumerate(zip(*texts, strict=True))
            if any(torch.equal(text, own) for text in each)
        ]

    @property
    def length(self) -> int:
        """How many tokens the prompt has."""
        return len(self._text)

    @contextmanager
    def sampling(self, shape: torch.Size) -> Iterator[RecordedSampling]:
        """Looks while one sampling goes on; one that is interrupted leaves nothing behind."""
        outside, self.now = self.now, RecordedSampling(shape, self.latents)
        try:
            yield self.now
            self._kept.append(self.now)
        finally:
            self.now = outside

    def found(self, latent: Tensor) -> RecordedSampling | None:
        """The sampling that ended in this latent (B, C, h, w), if it is remembered."""
        latent = latent.float().cpu()
        near = [
            ((each.latent - latent).norm() / latent.norm().clamp(min=1e-8), each)
            for each in self._kept
            if each.latent.shape == latent.shape
        ]
        distance, nearest = min(near, key=lambda pair: pair[0], default=(NEAR, None))
        return nearest if distance < NEAR else None
