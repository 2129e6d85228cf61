"""What makes the gradient through a ComfyUI model exact, and how it is taken away again.

ComfyUI's models are written for sampling: weights may be inference tensors, float8 or somewhere
else, and residuals are added in place. Each trap has one guard here or in `blocks.py`; `guarded`
installs them as `forward` attributes of the modules, and removes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import comfy.model_management
import comfy.ops
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import rms_norm

from ...families.family import NetLayout
from ..blocks import Forward, GuardedBlocks
from ..frozen import frozen

Forwards = dict[nn.Module, Forward]


# --- tensors and flags -------------------------------------------------------------------------


def ordinary(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that autograd may save where it was made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


@contextmanager
def outside_inference_mode() -> Iterator[None]:
    """Gradients on; nodes run in inference mode."""
    with torch.inference_mode(False), torch.enable_grad():
        yield


@contextmanager
def declared_training() -> Iterator[None]:
    """Tells newer hosts to leave out kernels that have no gradient (RoPE)."""
    management: Any = comfy.model_management
    if not hasattr(management, "in_training"):
        yield
        return
    before = management.in_training
    management.in_training = True
    try:
        yield
    finally:
        management.in_training = before


# --- frozen layers -----------------------------------------------------------------------------


class _Frozen(torch.autograd.Function):
    """y = own(x) of an affine layer; backward asks for g W again, so nothing is saved."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, own: Forward, pull_back: Forward) -> Tensor:
        ctx.pull_back, ctx.shape = pull_back, x.shape
        return own(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
        return ctx.pull_back(grad, ctx.shape), None, None


def frozen_linear(module: nn.Module) -> Forward | None:
    """A Linear whose weight autograd never sees: it may be float8, offloaded, or evicted."""
    if not (hasattr(module, "in_features") and hasattr(module, "out_features")):
        return None
    own = module.forward
    castable = isinstance(module, comfy.ops.CastWeightBiasOp) and "forward" not in vars(module)

    def pull_back(grad: Tensor, shape: torch.Size) -> Tensor:
        if castable:
            return _through_weight(module, grad)
        with torch.enable_grad():  # any affine forward, for example another node's
            zero = torch.zeros(shape, dtype=grad.dtype, device=grad.device, requires_grad=True)
            return torch.autograd.grad(own(zero), zero, grad)[0]

    return lambda x: _Frozen.apply(x, own, pull_back)


def _through_weight(module: Any, grad: Tensor) -> Tensor:
    """g W with the weight that the module's own cast gives, patches and scales included."""
    if callable(getattr(module, "cast_bias_weight", None)):  # GGUF layers bring their own cast
        return grad @ module.cast_bias_weight(grad)[0]
    weight, bias, stream = comfy.ops.cast_bias_weight(module, grad, offloadable=True)
    try:
        plain = weight.dequantize() if isinstance(weight, comfy.ops.QuantizedTensor) else weight
        grad = grad @ plain
    finally:
        comfy.ops.uncast_bias_weight(module, weight, bias, stream)
    for name in ("scale_weight", "pre_quant_scale"):  # factors that forward puts on x, not on W
        scale = getattr(module, name, None)
        grad = grad if scale is None else grad * scale.to(grad)
    return grad


def frozen_norm(module: nn.Module) -> Forward | None:
    """The host's own RMS norm, saving a copy of its scale: the scale may be an inference tensor."""
    if not (isinstance(module, nn.RMSNorm) and isinstance(module, comfy.ops.CastWeightBiasOp)):
        return None
    eps: float | None = module.eps

    def forward(x: Tensor) -> Tensor:
        weight, bias, stream = comfy.ops.cast_bias_weight(module, x, offloadable=True)
        scale = weight.detach().clone()
        comfy.ops.uncast_bias_weight(module, weight, bias, stream)
        return rms_norm(x, scale.shape, scale, eps)

    return None if module.weight is None else forward


def copied_parameters(module: nn.Module) -> Forward | None:
    """Any other layer with parameters of its own computes on copies: they may be inference tensors.

    Norms of a net's own class are such, whatever they do with their scale.
    """
    own_names = [name for name, value in module._parameters.items() if value is not None]
    if not own_names or next(module.children(), None) is not None:
        return None
    if isinstance(module, comfy.ops.CastWeightBiasOp | nn.Conv1d | nn.Conv2d | nn.Embedding):
        return None
    own = module.forward

    def forward(*args: Any, **kwargs: Any) -> Any:
        before = dict(module._parameters)
        for name in own_names:
            copy = before[name].detach().clone()  # type: ignore[union-attr] # it is one of own_names
            module._parameters[name] = nn.Parameter(copy, requires_grad=False)
        try:
            return own(*args, **kwargs)
        finally:
            module._parameters.update(before)

    return forward


def copying_layer_norm(module: nn.Module) -> Forward | None:
    """A LayerNorm that saves a copy of its input, to which the block then adds in place."""
    if not isinstance(module, nn.LayerNorm):
        return None
    own = module.forward
    return lambda x: own(x.clone() if torch.is_grad_enabled() else x)


LAYER_GUARDS: tuple[Callable[[nn.Module], Forward | None], ...] = (
    frozen_linear,
    frozen_norm,
    copying_layer_norm,
    copied_parameters,
)


# --- installing ----------------------------------------------------------------------------------


def guarded_forwards(net: nn.Module, layout: NetLayout, blocks: GuardedBlocks) -> Forwards:
    """The replacement `forward` of every module of a net that needs one."""
    forwards: Forwards = {}
    for module in net.modules():
        found = [forward for guard in LAYER_GUARDS if (forward := guard(module)) is not None]
        if found:
            forwards[module] = found[0]
    number = 0
    for each in layout.blocks:
        for index, block in enumerate(net.get_submodule(each.path).children()):
            forwards[block] = blocks.guarded(block.forward, each, index, number)
            number += 1
    return forwards


@contextmanager
def guarded(net: nn.Module, layout: NetLayout, blocks: GuardedBlocks) -> Iterator[None]:
    """All guards on a net for the time of the `with`; afterwards it is as it was."""
    forwards = guarded_forwards(net, layout, blocks)
    before = {module: vars(module).get("forward") for module in forwards}
    with outside_inference_mode(), declared_training(), frozen(net):
        try:
            for module, forward in forwards.items():
                module.forward = forward
            yield
        finally:
            for module, forward in before.items():
                if forward is None:
                    vars(module).pop("forward", None)
                else:
                    module.forward = forward
