"""A flow model that ComfyUI has loaded, as the engine wants to see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from typing import Any

import comfy.lora
import comfy.patcher_extension as extension
import comfy.samplers
import torch
from torch import Tensor

from ...families.family import Family
from ...families.registry import family_of
from ...interfaces import (
    AttentionCapture,
    Conditioning,
    Entering,
    LatentGrid,
    LinearSlice,
    Prompt,
)
from ...lora.adapters import LoraSet
from ...validation import shortened
from ..blocks import BlockRequest, GuardedBlocks, Spans, by_length, require_blocks, require_captured
from .attention import OPTIONS, OVERRIDE, attending, training_attention
from .guards import guarded

# Behind one of these the host's LoRA loader knows a layer's canonical name, or the net's own.
PREFIXES = ("transformer.", "diffusion_model.", "")
PROBE = (64, 64)  # pixels of a picture that a gradient is tried on


def supported_family(model: Any) -> Family:
    """The family of a MODEL; raises ValueError, before any work, where it can't be trained on."""
    base: Any = getattr(model, "model", None)
    net: Any = getattr(base, "diffusion_model", None)
    return family_of(type(model if base is None else base).__name__, "comfy", net)


def model_description(model: Any) -> str:
    """A MODEL's kind and size in words, for files and messages; its class where it is unknown."""
    try:
        family = supported_family(model)
        return family.describe(family.comfy, model.model.diffusion_model)
    except ValueError:
        return type(model.model).__name__


def latent_grid(model: Any) -> LatentGrid:
    """Of a MODEL's pictures."""
    channels: int = model.model.latent_format.latent_channels
    return LatentGrid(channels, supported_family(model).pixels_per_latent)


def has_frames(model: Any) -> bool:
    """Whether a MODEL's latents are (B, C, 1, h, w), as of video models: a picture is one frame."""
    return model.model.latent_format.latent_dimensions == 3


def spans_of(family: Family, net: Any, context: Tensor, x: Tensor, length: int) -> Spans:
    """Where text and image stand in the net's joint attention.

    Args:
        context: (B, T, D) of which a prompt of `length` tokens is the first, or the last ones.
        x: latents (B, C, h, w).
    """
    rows, columns = LatentGrid(x.shape[1], family.pixels_per_latent).tokens(*x.shape[-2:])
    text = context.shape[1]
    prompt = length if family.left_padded else text
    return Spans.of(family.comfy, net, prompt=prompt, text=text, image=rows * columns)


class ComfyFlowModel:
    """`FlowModel` on a loaded ComfyUI MODEL; gradients are right only inside `session`.

    Args:
        model: the ModelPatcher that is loaded; its patches and options are used as they are.
        guidance: the guidance input of guidance-distilled models, or what samplers guide the family
            with; ignored by those that know neither.
        checkpointing: recompute each block in backward instead of keeping its activations.
    """

    def __init__(
        self, model: Any, *, guidance: float | None = 3.5, checkpointing: bool = True
    ) -> None:
        self.family = supported_family(model)
        self._base: Any = model.model
        self._net: Any = self._base.diffusion_model
        self._sampling: Any = model.get_model_object("model_sampling")
        self._options: dict[str, Any] = model.model_options.get(OPTIONS, {})
        self._guarded = GuardedBlocks(attending)
        self.guidance = guidance
        self.cfg = self.family.comfy.cfg_scale(self._net, guidance)
        self.checkpointing = checkpointing
        self.device: torch.device = model.load_device
        cast: torch.dtype | None = model.get_model_object("manual_cast_dtype")  # nodes may patch it
        self.dtype: torch.dtype = cast or self._base.get_dtype()
        self.joint_blocks = self.family.comfy.joint_blocks(self._net)
        self.blocks = sum(self.family.comfy.counts(self._net))
        self.latents = latent_grid(model)
        self._framed = has_frames(model)

    @cached_property
    def _keys(self) -> dict[str, Any]:
        """The host's map of layer names to weights: asked once, for it reads all of them."""
        return comfy.lora.model_lora_keys_unet(self._base, {})

    @property
    def entrances(self) -> Mapping[str, Entering]:
        """Layers through which text comes in, as far as this net has them."""
        return {
            name: kind
            for name, kind in self.family.entrances.items()
            if self._linear(name) is not None
        }

    @property
    def text_width(self) -> int:
        """How many numbers a token of its text has."""
        [name] = (name for name, kind in self.entrances.items() if kind == "text")
        found = self._linear(name)
        assert found is not None
        return found[0].in_features

    @contextmanager
    def session(self) -> Iterator[ComfyFlowModel]:
        """Guards the model for training and gives it back; see `guards`."""
        with guarded(self._net, self.family.comfy, self._guarded):
            yield self

    def velocity(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, *, capture: AttentionCapture | None = None
    ) -> Tensor:
        """v(x_t, t, cond), (B, C, h, w) float32; t is (B,) in [0, 1] and 1 is pure noise.

        Raises ValueError where another node's code on the MODEL takes other arguments.
        """
        require_blocks(capture, self.blocks)
        try:
            out = by_length(self._velocity, x_t, t, cond, capture)
            out = out.to(torch.promote_types(out.dtype, torch.float32))
        except (AssertionError, AttributeError, LookupError, TypeError) as error:
            why = shortened(f"{type(error).__name__}: {error}", 200)
            raise ValueError(
                f"Got a model on which another node's code fails ({why}), "
                "expected code for this ComfyUI. Take nodes off it that replace its attention or "
                "its forward pass, or update them."
            ) from error
        require_captured(capture)
        return out

    def require_gradient(self, prompt: Prompt) -> None:
        """A small pass and its gradient to the text, as training needs them; call it in a session.

        Raises ValueError where what other nodes have put on the MODEL is in the way.
        """
        text = prompt.text.detach().clone().requires_grad_()
        cond = Conditioning((replace(prompt, text=text),))
        capture = AttentionCapture(torch.zeros(1, 1).long(), tuple(range(self.joint_blocks)))
        x_t = torch.zeros(1, *self.latents.shape(*PROBE))
        try:
            with torch.enable_grad():
                out = self.velocity(x_t, torch.ones(1), cond, capture=capture)
                torch.autograd.grad(out.sum(), text)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError) or "out of memory" in str(error):
                raise
            raise ValueError(
                f"Got a model without a gradient ({shortened(str(error))}), expected one that "
                "training can follow. Take nodes off it that wrap its forward pass, replace its "
                "attention or skip parts of it (TeaCache and other caches, compiled or no-grad "
                "wrappers)."
            ) from error

    def timesteps(self, steps: int, height: int, width: int) -> Tensor:
        """The loaded model's own times, `simple` schedule: (steps + 1,), from 1 to 0.

        The host shifts time by what the sampling object holds (a node may set it for a
        resolution), not by the latent's size.
        """
        return comfy.samplers.calculate_sigmas(self._sampling, "simple", steps).float()

    def target_names(self, target: str) -> list[str]:
        """Canonical names of a target set's layers that this net has: a last block may lack some.

        Raises ValueError for a set that there is not.
        """
        names = self.family.target_names(target, self.joint_blocks)
        return [name for name in names if self._linear(name) is not None]

    def linear_slices(self, names: Iterable[str]) -> dict[str, LinearSlice]:
        """The rows that the host's own LoRA loader changes; ValueError for unknown layers."""
        return {name: self._linear_slice(name) for name in names}

    @torch.no_grad()
    def entering(self, name: str, text: Tensor) -> Tensor:
        """What the entrance `name` is given for text features (N, n)."""
        return self.family.comfy.entering(self._net, name, text.to(self.device, self.dtype))

    def adapters(self, slices: dict[str, LinearSlice], **numbers: Any) -> LoraSet:
        """By hooks: the host's Linears stay in their places, whatever their weights are.

        On the device that computes, which is not the weights' own where they are offloaded.
        """
        return LoraSet(slices, device=self.device, **numbers)

    def _linear_slice(self, name: str) -> LinearSlice:
        found = self._linear(name)
        if found is None:
            example = self.target_names("text_in_pooled")[0]
            raise ValueError(
                f"Got layer {name!r}, expected a diffusers name that this {self.family.name} has, "
                f"such as {example!r}. Check the name and the block's number."
            )
        module, rows = found
        stored, whole = tuple(module.weight.shape), (module.out_features, module.in_features)
        if stored != whole:  # where the host puts no LoRA, either
            raise ValueError(
                f"Got the layer {name} with a packed weight {stored}, expected {whole}, as LoRAs "
                "are put on. Load the model in another format, such as bf16, fp8 or GGUF."
            )
        first, count = rows or (0, module.out_features)
        return LinearSlice(module, first, count, module.in_features)

    def _linear(self, name: str) -> tuple[Any, tuple[int, int] | None] | None:
        """The Linear of a canonical name, and its rows where not all; None where there is none.

        The host's map names layers that some nets lack.
        """
        keys = self._keys
        key = next((keys[prefix + name] for prefix in PREFIXES if prefix + name in keys), None)
        if key is None:
            return None
        weight, rows = (key, None) if isinstance(key, str) else (key[0], key[1][1:])
        try:
            return self._base.get_submodule(weight.removesuffix(".weight")), rows
        except AttributeError:
            return None

    def _velocity(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, capture: AttentionCapture | None
    ) -> Tensor:
        """What the net answers to prompts of one length, in its own numbers."""
        x_t, t, given = x_t.to(self.device), t.to(self.device), self._inputs(x_t, cond)
        text = given.pop("c_crossattn")
        spans = spans_of(self.family, self._net, text, x_t, len(cond.prompts[0].text))
        request = BlockRequest(capture, self.checkpointing, spans)
        override = training_attention(self._options.get(OVERRIDE))
        options = {**self._options, OVERRIDE: override, "sigmas": t, "cond_or_uncond": [0]}
        wrappers = extension.get_all_wrappers(extension.WrappersMP.APPLY_MODEL, options)
        through = extension.WrapperExecutor.new_class_executor(self._net_pass, self._base, wrappers)
        with self._guarded.asked(request):
            if not self._framed:
                return through.execute(x_t, t, None, text, None, options, **given)
            return through.execute(x_t[:, :, None], t, None, text, None, options, **given)[:, :, 0]

    def _inputs(self, x_t: Tensor, cond: Conditioning) -> dict[str, Any]:
        """Text, pooled text and whatever else the host makes of a prompt for this net."""
        given = {"cross_attn": cond.text, "pooled_output": cond.pooled}
        if not self.family.comfy.cfg(self._net):
            given["guidance"] = self.guidance
        conds = self._base.extra_conds(**given, noise=x_t, device=self.device)
        found = {
            key: one.process_cond(batch_size=len(x_t), area=None).cond for key, one in conds.items()
        }
        return {key: self._cast(value) for key, value in found.items()}

    def _net_pass(
        self,
        x: Tensor,
        sigma: Tensor,
        c_concat: Tensor | None,
        text: Tensor,
        control: Any,
        options: dict[str, Any],
        **given: Any,
    ) -> Tensor:
        """The net, called as the host's own pass calls it, but for its velocity."""
        time = self._sampling.timestep(sigma).float().to(self.device)
        return self._net(
            self._cast(x),
            self._base.process_timestep(time, x=x, **given),
            context=text,
            control=control,
            transformer_options=options,
            **given,
        )

    def _cast(self, value: Any) -> Any:
        """A tensor on the device, numbers that are not whole in the compute dtype."""
        if not isinstance(value, Tensor):
            return value
        return value.to(self.device, self.dtype if value.is_floating_point() else None)
