"""A diffusers flow model as the engine wants to see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from diffusers.models.attention_dispatch import AttentionBackendName
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from ...families.family import BlockList, Pass
from ...families.registry import family_of
from ...interfaces import (
    Adapters,
    AttentionCapture,
    Conditioning,
    Entering,
    LatentGrid,
    LinearSlice,
)
from ..blocks import (
    AttentionCall,
    BlockAttention,
    BlockRequest,
    GuardedBlocks,
    Spans,
    by_length,
    require_blocks,
)
from ..frozen import frozen

# How finely ComfyUI divides time, with and without a shift by resolution: both programs then
# sample the same states.
_TIMES = {True: 10_000, False: 1_000}


class DiffusersFlowModel:
    """`FlowModel` on a diffusers transformer; it is captured and checkpointed in `session` only.

    Args:
        net: the transformer; its weights, hooks and adapters are used as they are.
        scheduler: the pipeline's FlowMatchEulerDiscreteScheduler, which knows how time is shifted.
        guidance: the guidance input of guidance-distilled models; ignored by those without one.
        checkpointing: recompute each block in backward instead of keeping its activations.

    Raises:
        ValueError: a model of no known family, or one with a guidance input and none for it.
    """

    def __init__(
        self,
        net: Any,
        scheduler: Any,
        *,
        guidance: float | None = 3.5,
        checkpointing: bool = True,
    ) -> None:
        self.family = family_of(type(net).__name__, "diffusers")
        side = self.family.diffusers
        assert side is not None
        self._side, layout, calls = side, side.layout, side.calls
        if refused := layout.refusal(net):
            raise ValueError(
                f"Got {refused}, expected text-to-image {self.family.name}. "
                f"Load {self.family.models}."
            )
        if any(getattr(each, "fused_projections", False) for each in net.modules()):
            raise ValueError(
                f"Got a {self.family.name} with fused projections, expected separate ones. "
                "Call unfuse_qkv_projections()."
            )
        if calls.guided(net) and guidance is None:
            raise ValueError(
                "Got no guidance for a model with a guidance input, expected a number. "
                "Set guidance, for example to 3.5."
            )
        self.net = net
        self._scheduler = scheduler
        self._guarded = GuardedBlocks(_attending)
        self.guidance = guidance if calls.guided(net) else None
        self.cfg = layout.cfg_scale(net, guidance)
        self.checkpointing = checkpointing
        self.device: torch.device = net.device
        self.dtype: torch.dtype = net.dtype
        self.joint_blocks = layout.joint_blocks(net)
        there = dict(net.named_modules())
        self.entrances: Mapping[str, Entering] = {
            name: kind for name, kind in self.family.entrances.items() if there.get(name)
        }
        self.blocks = sum(layout.counts(net))
        self.latents = LatentGrid(calls.latent_channels(net), self.family.pixels_per_latent)

    @property
    def description(self) -> str:
        """The model's kind and size in the words that files trained in ComfyUI have, too."""
        return self.family.describe(self._side.layout, self.net)

    @contextmanager
    def session(self) -> Iterator[DiffusersFlowModel]:
        """The model frozen, and its blocks guarded; afterwards it is as it was."""
        with (
            torch.inference_mode(False),
            torch.enable_grad(),
            frozen(self.net),
            _own_checkpointing_off(self.net),
            _plain_attention(self.net),
            self._blocks_guarded(),
        ):
            yield self

    def velocity(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, *, capture: AttentionCapture | None = None
    ) -> Tensor:
        """v(x_t, t, cond), (B, C, h, w) float32; t is (B,) in [0, 1] and 1 is pure noise."""
        require_blocks(capture, self.blocks)
        v = by_length(self._velocity, x_t, t, cond, capture)
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
            mu=(self._side.calls.shift or config.max_shift) if shifted else None,
        )
        return scheduler.sigmas.float()

    def target_names(self, target: str) -> list[str]:
        """Canonical names of a target set's layers that this net has: a last block may lack some.

        Raises ValueError for a set that there is not.
        """
        modules = dict(self.net.named_modules())
        names = self.family.target_names(target, self.joint_blocks)
        return [name for name in names if modules.get(name) is not None]

    def linear_slices(self, names: Iterable[str]) -> dict[str, LinearSlice]:
        """All rows of the Linears of these names; ValueError for unknown ones."""
        modules = dict(self.net.named_modules())
        return {name: self._linear_slice(name, modules.get(name)) for name in names}

    @torch.no_grad()
    def entering(self, name: str, text: Tensor) -> Tensor:
        """What the entrance `name` is given for text features (N, n)."""
        return self._side.layout.entering(self.net, name, text.to(self.device, self.dtype))

    def adapters(self, slices: dict[str, LinearSlice], **numbers: Any) -> Adapters:
        """peft's layers, as everything around diffusers has them."""
        from .peft_lora import PeftLora

        return PeftLora(self.net, slices, **numbers)

    def _linear_slice(self, name: str, module: Any) -> LinearSlice:
        if not isinstance(getattr(module, "out_features", None), int):
            example = self.target_names("text_qk")[0]
            raise ValueError(
                f"Got layer {name!r}, expected a diffusers name that this {self.family.name} has, "
                f"such as {example!r}. Check the name and the block's number."
            )
        return LinearSlice(module, 0, module.out_features, module.in_features)

    def _velocity(
        self, x_t: Tensor, t: Tensor, cond: Conditioning, capture: AttentionCapture | None
    ) -> Tensor:
        """What the net answers to prompts of one length, in its own numbers."""
        guidance = None if self.guidance is None else torch.full((len(x_t),), self.guidance)
        given = Pass(
            self._cast(x_t),
            t.float().to(self.device),
            self._cast(cond.text),
            self._cast(cond.pooled),
            self._cast(guidance),
        )
        calls, spans = self._side.calls, self._spans(given)
        with self._guarded.asked(BlockRequest(capture, self.checkpointing, spans)):
            (out,) = self.net(**calls.inputs(given), return_dict=False)
        return calls.velocity(out, given)

    def _spans(self, given: Pass) -> Spans:
        """Where the prompt's tokens and the image's stand in joint attention."""
        rows, columns = self.latents.tokens(*given.x_t.shape[-2:])
        prompt = given.text.shape[1]
        text = max(prompt, self.family.left_padded)
        layout = self._side.layout
        return Spans.of(layout, self.net, prompt=prompt, text=text, image=rows * columns)

    def _cast(self, tensor: Any) -> Any:
        return None if tensor is None else tensor.to(self.device, self.dtype)

    @contextmanager
    def _blocks_guarded(self) -> Iterator[None]:
        changed, number = [], 0
        try:
            for each in self._side.layout.blocks:
                for index, block in enumerate(self.net.get_submodule(each.path).children()):
                    changed.append((block, vars(block).get("forward")))
                    block.forward = self._guarded.guarded(block.forward, each, index, number)
                    number += 1
            yield
        finally:
            for block, forward in changed:
                if forward is None:
                    del block.forward
                else:
                    block.forward = forward


# --- what is borrowed from the model for a session ---------------------------------------------


@contextmanager
def _own_checkpointing_off(net: Any) -> Iterator[None]:
    """The guarded blocks checkpoint by themselves."""
    names = ("gradient_checkpointing", "_gradient_checkpointing_func")
    before = {name: getattr(net, name) for name in names}
    net.disable_gradient_checkpointing()
    try:
        yield
    finally:
        for name, value in before.items():
            setattr(net, name, value)


@contextmanager
def _plain_attention(net: Any) -> Iterator[None]:
    """Torch's own attention: other kernels may have no gradient, or can't be looked at."""
    processors = [each.processor for each in net.modules() if hasattr(each, "processor")]
    before = [(each, vars(each).get("_attention_backend")) for each in processors]
    try:
        for processor, _ in before:  # the net's own setter would change it for all models
            processor._attention_backend = AttentionBackendName.NATIVE
        yield
    finally:
        for processor, backend in before:
            if backend is None:
                vars(processor).pop("_attention_backend", None)
            else:
                processor._attention_backend = backend


@contextmanager
def _attending(
    blocks: BlockList, index: int, kwargs: Mapping[str, Any], look: BlockAttention
) -> Iterator[Mapping[str, Any]]:
    """Torch's attention is looked at, in whichever thread the block runs."""
    with _LookedAt(look):
        yield kwargs


class _LookedAt(TorchFunctionMode):
    """Every call of torch's attention inside goes through `look`."""

    def __init__(self, look: BlockAttention) -> None:
        super().__init__()
        self._look = look

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is not scaled_dot_product_attention:
            return func(*args, **kwargs)
        names = ("query", "key", "value", "attn_mask")
        given = {**dict(zip(names, args, strict=False)), **kwargs}

        def run() -> Tensor:
            return func(*args, **kwargs).transpose(1, 2).flatten(2)

        q, k, v = (given[name] for name in names[:3])
        rows = self._look(AttentionCall(q, k, v, given.get("attn_mask"), run, plain=True))
        return rows.unflatten(2, (q.shape[1], -1)).transpose(1, 2)
