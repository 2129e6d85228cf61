"""A diffusers Flux and its text encoders, as the engine wants to see them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.embeddings import apply_rotary_emb
from einops import rearrange
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ...attention.mass import attention_mass, output_likeness
from ...interfaces import AttentionCapture, Conditioning, LinearSlice
from ...lora.adapters import LoraSet
from ...lora.targets import target_names
from ..frozen import frozen

# How finely ComfyUI divides time, with and without a shift by resolution: both programs then
# sample the same states.
_TIMES = {True: 10_000, False: 1_000}


def require_flux(net: Any) -> None:
    """Raises ValueError, before any work, where a model is not a text-to-image Flux.1."""
    if type(net).__name__ != "FluxTransformer2DModel":
        raise ValueError(
            f"Got {type(net).__name__}, expected FluxTransformer2DModel. "
            "Load the transformer of FLUX.1 [dev] or [schnell]."
        )
    channels = (net.config.in_channels, net.out_channels)
    fused = any(block.attn.fused_projections for block in net.transformer_blocks)
    if channels[0] != channels[1] or fused:
        raise ValueError(
            f"Got a Flux with {channels[0]} channels in, {channels[1]} out and "
            f"{'fused' if fused else 'separate'} projections, expected text-to-image FLUX.1 with "
            "separate ones. Load such a model, or call unfuse_qkv_projections()."
        )


def base_model_of(net: Any) -> str:
    """The model's kind and size in the words that files trained in ComfyUI have, too."""
    config = net.config
    blocks = f"{config.num_layers} + {config.num_single_layers} blocks"
    return f"Flux, {blocks}, {net.inner_dim} wide, {config.num_attention_heads} heads"


class DiffusersFlowModel:
    """`FlowModel` on a `FluxTransformer2DModel`; it captures attention inside `session` only.

    Args:
        net: the transformer; its weights, hooks and adapters are used as they are.
        scheduler: the pipeline's FlowMatchEulerDiscreteScheduler, which knows how time is shifted.
        guidance: FLUX.1 [dev]'s guidance input; ignored by models without one.
        checkpointing: recompute each block in backward instead of keeping its activations.

    Raises:
        ValueError: no text-to-image Flux, or one with a guidance input and no guidance for it.
    """

    def __init__(
        self,
        net: Any,
        scheduler: Any,
        *,
        guidance: float | None = 3.5,
        checkpointing: bool = True,
    ) -> None:
        require_flux(net)
        if net.config.guidance_embeds and guidance is None:
            raise ValueError(
                "Got no guidance for a model with a guidance input, expected a number. "
                "Set guidance, for example to 3.5."
            )
        self.net = net
        self._scheduler = scheduler
        self.guidance = guidance if net.config.guidance_embeds else None
        self.checkpointing = checkpointing
        self.device: torch.device = net.device
        self.dtype: torch.dtype = net.dtype
        self.joint_blocks = len(net.transformer_blocks)
        self.blocks = self.joint_blocks + len(net.single_transformer_blocks)
        self.latent_channels: int = net.config.in_channels // 4

    @contextmanager
    def session(self) -> Iterator[DiffusersFlowModel]:
        """The model frozen, watched and checkpointed; afterwards it is as it was."""
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            frozen(self.net),
            _watched(self.net),
            _checkpointed(self.net, self.checkpointing),
        ):
            yield self

    def velocity(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, *, capture: AttentionCapture | None = None
    ) -> Tensor:
        """v(x_t, t, cond), (B, C, h, w) float32; t is (B,) in [0, 1] and 1 is pure noise."""
        # The pass's own: a block that is recomputed writes again.
        found: dict[int, list[Tensor]] = {}
        watch = {} if capture is None else {"watch": self._watch(capture, cond, found)}
        height, width = x_t.shape[-2] // 2, x_t.shape[-1] // 2
        packed = rearrange(x_t, "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)
        (out,) = self.net(
            hidden_states=self._cast(packed),  # (B, L, 4 C)
            timestep=t.float().to(self.device),
            guidance=self._guidance(len(x_t)),
            encoder_hidden_states=self._cast(cond.text),
            pooled_projections=self._cast(cond.pooled),
            img_ids=_positions(height, width).to(self.device),
            txt_ids=torch.zeros(cond.text.shape[1], 3, device=self.device),
            joint_attention_kwargs=watch,
            return_dict=False,
        )
        if capture is not None:
            for block, each in found.items():
                capture.put(block, each)
        v = rearrange(out, "b (h w) (c p q) -> b c (h p) (w q)", h=height, p=2, q=2)
        return v.to(torch.promote_types(v.dtype, torch.float32))

    def timesteps(self, steps: int, height: int, width: int) -> Tensor:
        """The scheduler's times, shifted as for its largest pictures: (steps + 1,), from 1 to 0.

        Pictures are made larger than what is trained on, and ComfyUI shifts them all alike.
        """
        config = self._scheduler.config
        shifted = bool(config.use_dynamic_shifting)
        parts = _TIMES[shifted]
        scheduler = type(self._scheduler).from_config(config)  # set_timesteps changes it
        scheduler.set_timesteps(
            sigmas=[1 - step * parts // steps / parts for step in range(steps)],
            mu=config.max_shift if shifted else None,
        )
        return scheduler.sigmas.float()

    def target_names(self, target: str) -> list[str]:
        """Canonical names of a target set's layers; ValueError for a set that there is not."""
        return target_names(target, self.joint_blocks)

    def linear_slices(self, names: Iterable[str]) -> dict[str, LinearSlice]:
        """Canonical layer names to this model's Linears; ValueError for unknown ones."""
        return {name: _linear_slice(self.net, name) for name in names}

    def adapters(self, slices: dict[str, LinearSlice], **numbers: Any) -> LoraSet:
        """peft's layers, as everything around diffusers has them."""
        from .peft_lora import PeftLora

        return PeftLora(self.net, slices, **numbers)

    def _watch(
        self, capture: AttentionCapture, cond: Conditioning, found: dict[int, list[Tensor]]
    ) -> _Watch:
        if not capture.blocks or not set(capture.blocks) <= set(range(self.blocks)):
            raise ValueError(
                f"Got capture blocks {capture.blocks}, expected some of 0 to {self.blocks - 1}. "
                "Name blocks that this model has."
            )
        return _Watch(capture, cond.text.shape[1], found)

    def _guidance(self, count: int) -> Tensor | None:
        return None if self.guidance is None else self._cast(torch.full((count,), self.guidance))

    def _cast(self, tensor: Any) -> Any:
        return tensor.to(self.device, self.dtype)


def _positions(height: int, width: int) -> Tensor:
    """(L, 3): 0, row and column of each image token."""
    axes = (torch.zeros(1, dtype=torch.long), torch.arange(height), torch.arange(width))
    return torch.cartesian_prod(*axes).float()


def _linear_slice(net: Any, name: str) -> LinearSlice:
    """All rows of the Linear of this name."""
    try:
        module = net.get_submodule(name)
        return LinearSlice(module, 0, module.out_features, module.in_features)
    except AttributeError:
        raise ValueError(
            f"Got layer {name!r}, expected a diffusers name that this Flux has, such as "
            "'transformer_blocks.0.attn.add_q_proj'. Check the name and the block's number."
        ) from None


@contextmanager
def _checkpointed(net: Any, checkpointing: bool) -> Iterator[None]:
    names = ("gradient_checkpointing", "_gradient_checkpointing_func")
    before = {name: getattr(net, name) for name in names}
    if checkpointing:
        net.enable_gradient_checkpointing()
    else:
        net.disable_gradient_checkpointing()
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(net, name, value)


@contextmanager
def _watched(net: Any) -> Iterator[None]:
    """Attention that has a gradient with every kernel, and can be watched."""
    blocks = [*net.transformer_blocks, *net.single_transformer_blocks]
    before = [(block.attn, block.attn.processor) for block in blocks]
    try:
        for index, (attention, _) in enumerate(before):
            attention.set_processor(_WatchedAttention(index))
        yield
    finally:
        for attention, processor in before:
            attention.set_processor(processor)


class _Watch:
    """What one forward pass wants to know of its attention, and what was found."""

    def __init__(
        self, capture: AttentionCapture, text_length: int, found: dict[int, list[Tensor]]
    ) -> None:
        self._capture = capture
        self._text_length = text_length
        self._found = found

    def see(self, block: int, q: Tensor, k: Tensor) -> None:
        """Keeps the mass on the watched tokens, where this block is watched and that asked for."""
        if block in self._capture.blocks:
            image = q[:, :, self._text_length :]
            asked = self._capture.masses
            self._found[block] = [attention_mass(image, k, self._capture.tokens)] if asked else []

    def compare(self, block: int, out: Tensor) -> None:
        """Keeps how alike outputs are, where this block is watched and that was asked for."""
        if block in self._capture.blocks and self._capture.outputs:
            likeness = output_likeness(out, self._text_length, self._capture.tokens)
            self._found[block].append(likeness)


_IMAGE = ("to_q", "to_k", "to_v", "norm_q", "norm_k")
_TEXT = ("add_q_proj", "add_k_proj", "add_v_proj", "norm_added_q", "norm_added_k")


class _WatchedAttention:
    """Processor of block number `block`, double blocks first: joint attention as diffusers has it.

    Kernels that diffusers may be told to use have no gradient, or no values to exchange for
    indicators; torch's own has both.
    """

    def __init__(self, block: int) -> None:
        self._block = block

    def __call__(
        self,
        attn: Any,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor | None = None,
        attention_mask: Tensor | None = None,
        image_rotary_emb: Any = None,
        watch: _Watch | None = None,
    ) -> Any:
        heads = _heads(attn, hidden_states, _IMAGE)
        text_length = 0
        if encoder_hidden_states is not None:
            text_length = encoder_hidden_states.shape[1]
            text = _heads(attn, encoder_hidden_states, _TEXT)
            heads = [torch.cat(pair, 2) for pair in zip(text, heads, strict=True)]
        q, k = (_rotated(each, image_rotary_emb) for each in heads[:2])
        if watch is not None:
            watch.see(self._block, q, k)
        mixed = scaled_dot_product_attention(q, k, heads[2], attn_mask=attention_mask)
        mixed = rearrange(mixed, "b h n d -> b n (h d)")
        if watch is not None:
            watch.compare(self._block, mixed)
        if encoder_hidden_states is None:
            return mixed
        text, image = mixed.split([text_length, mixed.shape[1] - text_length], dim=1)
        return attn.to_out[1](attn.to_out[0](image)), attn.to_add_out(text)


def _heads(attn: Any, x: Tensor, layers: Sequence[str]) -> list[Tensor]:
    """Query, key and value of one stream, normed, each (B, H, N, D)."""
    to_q, to_k, to_v, norm_q, norm_k = (getattr(attn, name) for name in layers)
    q, k, v = (layer(x).unflatten(-1, (-1, attn.head_dim)) for layer in (to_q, to_k, to_v))
    return [each.transpose(1, 2) for each in (norm_q(q), norm_k(k), v)]


def _rotated(x: Tensor, rotary_emb: Any) -> Tensor:
    turned: Any = apply_rotary_emb(x, rotary_emb)
    return turned
