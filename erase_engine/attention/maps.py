"""Attention maps to look at: where in the picture a model looks for each word of a prompt."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from ..flow import add_noise, euler_path, require_finite
from ..interfaces import Conditioning, FlowModel
from ..sampling import guided
from .query import AttentionQuery


@dataclass(frozen=True)
class AttentionMaps:
    """One map for each step and word, and the picture that was sampled meanwhile.

    `steps` (S, W, h, w): averaged over double blocks (and heads); between 0 and 1. Training signal:
    the attention mass that a place of the picture gives to the word's tokens. Saliency: the word's
    share of the place. `latent` (1, C, h, w).
    """

    steps: Tensor
    latent: Tensor

    @property
    def maps(self) -> Tensor:
        """(W, h, w): the steps' mean."""
        return self.steps.mean(dim=0)

    @property
    def means(self) -> list[float]:
        """Each word's value, averaged over picture and steps."""
        return self.maps.mean(dim=(1, 2)).tolist()


class Recorder:
    """Forward passes of one prompt, with their maps kept."""

    def __init__(self, backend: FlowModel, cond: Conditioning, look: AttentionQuery) -> None:
        self._backend, self._cond, self._look = backend, cond, look
        self._maps: list[Tensor] = []

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """v(x, t) of one sample, on the CPU."""
        capture = self._look.capture()
        v = self._backend.velocity(x, t, self._cond, capture=capture).cpu()
        self._maps.append(self._look.maps(capture))
        return v

    def steps(self, latent: Tensor) -> Tensor:
        """(S, W, h, w): the maps of every pass, whose latents were like (1, C, h, w)."""
        rows, _ = self._backend.latents.tokens(*latent.shape[-2:])
        return rearrange(torch.stack(self._maps), "s w (y x) -> s w y x", y=rows)


@torch.no_grad()
def attention_maps(
    backend: FlowModel,
    cond: Conditioning,
    look: AttentionQuery,
    *,
    noise: Tensor,
    times: Tensor,
    on_step: Callable[[], None] = lambda: None,
) -> AttentionMaps:
    """Samples one picture and watches the attention on the way.

    Args:
        cond: the prompt, and the one without words that guidance leads away from.
        noise: (1, C, h, w).
        times: (S + 1,) from 1 to 0.
        on_step: called after each step; may raise to cancel.

    Raises ValueError where the picture is not finite.
    """
    recorder = Recorder(backend, cond.take([0]), look)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        v = guided(backend, x, t, recorder.velocity(x, t), cond.prompts[1]).cpu()
        on_step()
        return v

    latent = require_finite("a picture", euler_path(velocity, noise, times)[:, -1])
    return AttentionMaps(recorder.steps(noise), latent)


@torch.no_grad()
def maps_of_picture(
    backend: FlowModel,
    cond: Conditioning,
    look: AttentionQuery,
    *,
    latent: Tensor,
    noise: Tensor,
    times: Tensor,
) -> AttentionMaps:
    """The maps of a picture that is there already: noised to each time, and one pass at each.

    Args:
        latent: (1, C, h, w) in model space.
        noise: the same shape.
        times: (S,) in (0, 1].
    """
    recorder = Recorder(backend, cond, look)
    for t in times:
        recorder.velocity(add_noise(latent, noise, t[None]), t[None])
    return AttentionMaps(recorder.steps(latent), latent)
