"""A Flux that ComfyUI has loaded, and its text encoders, as the engine wants to see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import Any

import comfy.ldm.flux.model
import comfy.model_base
import comfy.samplers
import torch
from torch import Tensor

from ...interfaces import AttentionCapture, Conditioning, LinearSlice
from ...lora.adapters import LoraSet
from ...lora.targets import target_names
from ..flux_names import rows_of
from .guards import OVERRIDE, REQUEST, Request, Stopped, guarded, ordinary, training_attention


def require_flux(model: Any) -> None:
    """Raises ValueError, before any work, where a MODEL is not a text-to-image Flux.1."""
    base: Any = getattr(model, "model", None)
    net: Any = getattr(base, "diffusion_model", None)
    if not isinstance(base, comfy.model_base.Flux) or not isinstance(
        net, comfy.ldm.flux.model.Flux
    ):
        found = next(type(each).__name__ for each in (net, base, model) if each is not None)
        raise ValueError(f"Got {found}, expected a Flux model. Load FLUX.1 [dev] or [schnell].")
    plain = net.params.in_channels == net.params.out_channels and net.vector_in is not None
    if not plain or net.params.global_modulation:
        raise ValueError(
            f"Got a Flux variant ({type(base).__name__}, {net.params.in_channels} channels in), "
            "expected text-to-image FLUX.1. Load FLUX.1 [dev] or [schnell]."
        )


class ComfyFlowModel:
    """`FlowModel` on a loaded ComfyUI Flux; gradients are right only inside `session`.

    Args:
        model: the ModelPatcher that is loaded; its patches and options are used as they are.
        guidance: FLUX.1 [dev]'s guidance input; ignored by models without one.
        checkpointing: recompute each block in backward instead of keeping its activations.
    """

    def __init__(
        self, model: Any, *, guidance: float | None = 3.5, checkpointing: bool = True
    ) -> None:
        require_flux(model)
        base = model.model
        self._net: Any = base.diffusion_model
        self._sampling: Any = model.get_model_object("model_sampling")
        self._options: dict[str, Any] = model.model_options.get("transformer_options", {})
        self.guidance = guidance
        self.checkpointing = checkpointing
        self.device: torch.device = model.load_device
        self.dtype: torch.dtype = base.manual_cast_dtype or base.get_dtype()
        self.joint_blocks = len(self._net.double_blocks)
        self.blocks = self.joint_blocks + len(self._net.single_blocks)
        self.latent_channels: int = self._net.params.out_channels

    @contextmanager
    def session(self) -> Iterator[ComfyFlowModel]:
        """Guards the model for training and gives it back; see `comfy_guards`."""
        with guarded(self._net):
            yield self

    def velocity(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, *, capture: AttentionCapture | None = None
    ) -> Tensor:
        """v(x_t, t, cond), (B, C, h, w) float32; t is (B,) in [0, 1] and 1 is pure noise."""
        if capture is not None:
            self._check(capture)
        out = self._forward(x_t, t, cond, self._request(x_t, capture))
        return out.to(torch.promote_types(out.dtype, torch.float32))

    def probe(self, x_t: Tensor, t: Tensor, cond: Conditioning, capture: AttentionCapture) -> None:
        """Fills `capture.mass` and stops after the last captured block: no velocity."""
        self._check(capture)
        with suppress(Stopped):
            request = replace(self._request(x_t, capture), stop_after=max(capture.blocks))
            self._forward(x_t, t, cond, request)

    def timesteps(self, steps: int, height: int, width: int) -> Tensor:
        """The loaded model's own times, `simple` schedule: (steps + 1,), from 1 to 0.

        The host shifts time by what the sampling object holds (a ModelSamplingFlux node may set
        it for a resolution), not by the latent's size.
        """
        return comfy.samplers.calculate_sigmas(self._sampling, "simple", steps).float()

    def target_names(self, target: str) -> list[str]:
        """Canonical names of a target set's layers; ValueError for a set that there is not."""
        return target_names(target, self.joint_blocks)

    def linear_slices(self, names: Iterable[str]) -> dict[str, LinearSlice]:
        """Canonical layer names to rows of this model's Linears; ValueError for unknown ones."""
        return {name: _linear_slice(self._net, name) for name in names}

    def adapters(self, slices: dict[str, LinearSlice], **numbers: Any) -> LoraSet:
        """By hooks: the host's Linears stay in their places, whatever their weights are.

        On the device that computes, which is not the weights' own where they are offloaded.
        """
        return LoraSet(slices, device=self.device, **numbers)

    def _request(self, x_t: Tensor, capture: AttentionCapture | None) -> Request:
        patch = self._net.patch_size
        height, width = (-(-side // patch) for side in x_t.shape[2:])
        return Request(capture, self.checkpointing, height * width)

    def _check(self, capture: AttentionCapture) -> None:
        """Raises ValueError where a block to capture does not exist."""
        if not capture.blocks or not set(capture.blocks) <= set(range(self.blocks)):
            raise ValueError(
                f"Got capture blocks {capture.blocks}, expected some of 0 to {self.blocks - 1}. "
                "Name blocks that this model has."
            )

    def _forward(self, x_t: Tensor, t: Tensor, cond: Conditioning, request: Request) -> Tensor:
        guidance = None
        if self._net.params.guidance_embed and self.guidance is not None:
            guidance = self._cast(torch.full((len(x_t),), self.guidance))
        return self._net(
            self._cast(x_t),
            self._sampling.timestep(ordinary(t)).float().to(self.device),
            context=self._cast(cond.text),
            y=self._cast(cond.pooled),
            guidance=guidance,
            transformer_options=self._transformer_options(t, request),
        )

    def _transformer_options(self, t: Tensor, request: Request) -> dict[str, Any]:
        """The user's options (patches, wrappers) with this pass's attention and request."""
        override = training_attention(self._options.get(OVERRIDE))
        mine = {OVERRIDE: override, REQUEST: request, "sigmas": t, "cond_or_uncond": [0]}
        return {**self._options, **mine}

    def _cast(self, tensor: Any) -> Any:
        return ordinary(tensor).to(self.device, self.dtype)


def _linear_slice(net: Any, name: str) -> LinearSlice:
    """What one canonical name means in ComfyUI's Flux."""
    try:
        path, start, length = rows_of(name)
        module = net.get_submodule(path)
    except (KeyError, AttributeError):
        raise ValueError(
            f"Got layer {name!r}, expected a diffusers name that this Flux has, such as "
            "'transformer_blocks.0.attn.add_q_proj'. Check the name and the block's number."
        ) from None
    first = start * net.hidden_size
    count = module.out_features - first if length is None else length * net.hidden_size
    return LinearSlice(module, first, count, module.in_features)
