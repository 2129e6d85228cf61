"""What makes the gradient through ComfyUI's Flux exact, and how it is taken away again.

ComfyUI's model is written for sampling: weights may be inference tensors, float8 or somewhere
else, residuals are added in place, and one options dict is shared by all blocks. Each trap has one
guard here; `guarded` installs them as `forward` attributes of the modules, and removes them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import comfy.model_management
import comfy.ops
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import rms_norm, scaled_dot_product_attention
from torch.utils.checkpoint import checkpoint

from ...attention.mass import attention_and_mass, attention_mass, output_likeness
from ...interfaces import AttentionCapture

Forward = Callable[..., Any]
OVERRIDE = "optimized_attention_override"  # the host's key in transformer_options
REQUEST = "eraseanything_request"  # ours
MOST_RIDING = 64  # tokens whose mass comes with the attention: with a head, no more than 256 wide


@dataclass(frozen=True)
class Request:
    """What one forward pass asks of the guarded blocks; it travels in transformer_options."""

    capture: AttentionCapture | None
    checkpointing: bool
    image_length: int  # tokens
    stop_after: int | None = None  # the double block after which nothing is wanted

    def watched(self, block: int) -> AttentionCapture | None:
        """What to watch in this block, if anything."""
        return self.capture if self.capture and block in self.capture.blocks else None


class Stopped(Exception):
    """Ends a forward pass after the last block that was asked for."""


# --- tensors and flags -------------------------------------------------------------------------


def ordinary(tensor: Tensor) -> Tensor:
    """The tensor, or a copy that autograd may save where it was made in inference mode."""
    return tensor.clone() if tensor.is_inference() else tensor


def own_copy(tensor: Tensor) -> Tensor:
    """A copy for a block to add its residuals to: checkpointing keeps the block's inputs."""
    return tensor.clone() if torch.is_grad_enabled() else tensor


def own_options(options: dict[str, Any], kind: str, index: int) -> dict[str, Any]:
    """The options as this block must see them in backward too, when the host's say the last one."""
    return {**options, "block_type": kind, "block_index": index}


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
        return _through_weight(module, grad) if castable else _through_forward(own, grad, shape)

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


def _through_forward(own: Forward, grad: Tensor, shape: torch.Size) -> Tensor:
    """g W for any affine forward, for example one that another node has replaced."""
    with torch.enable_grad():
        zero = torch.zeros(shape, dtype=grad.dtype, device=grad.device, requires_grad=True)
        return torch.autograd.grad(own(zero), zero, grad)[0]


def frozen_norm(module: nn.Module) -> Forward | None:
    """An RMS norm that saves a copy of its scale: the scale may be an inference tensor."""
    if type(module).__name__ != "RMSNorm":
        return None
    eps = getattr(module, "eps", 1e-6)

    def forward(x: Tensor) -> Tensor:
        scale = _norm_scale(module, x)
        return rms_norm(x, scale.shape, scale, eps)

    return forward


def _norm_scale(module: Any, x: Tensor) -> Tensor:
    if not isinstance(module, comfy.ops.CastWeightBiasOp):
        return module.scale.detach().to(x).clone()
    weight, bias, stream = comfy.ops.cast_bias_weight(module, x, offloadable=True)
    scale = weight.detach().clone()
    comfy.ops.uncast_bias_weight(module, weight, bias, stream)
    return scale


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
)


# --- attention ---------------------------------------------------------------------------------


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, **options: Any
) -> Tensor:
    """Softmax attention by torch's own kernel, which never depends on free memory.

    q, k, v are (B, H, N, D) with `skip_reshape`, else (B, N, H * D); returns (B, N, H * D), or
    (B, H, N, D) with `skip_output_reshape`.
    """
    if not options.get("skip_reshape"):
        q, k, v = (x.unflatten(-1, (heads, -1)).transpose(1, 2) for x in (q, k, v))
    return _shaped(scaled_dot_product_attention(q, k, v, attn_mask=_mask(mask)), options)


def alone(func: Forward, *args: Any, **kwargs: Any) -> Tensor:
    """The attention override of the session where nobody else has one."""
    return plain_attention(*args, **kwargs)


def _mask(mask: Tensor | None) -> Tensor | None:
    """As (B, 1 or H, 1 or N, N), whatever it came as."""
    while mask is not None and mask.ndim < 4:
        mask = mask.unsqueeze(-3) if mask.ndim == 3 else mask[None]
    return mask


def _shaped(out: Tensor, options: dict[str, Any]) -> Tensor:
    return out if options.get("skip_output_reshape") else out.transpose(1, 2).flatten(2)


def training_attention(earlier: Forward | None) -> Forward:
    """The attention override of the session: plain attention, inside an earlier override if any."""
    if earlier is None:
        return alone

    def override(func: Forward, q: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out = earlier(plain_attention, q, *args, **kwargs)
        if torch.is_grad_enabled() and q.requires_grad and not out.requires_grad:
            raise ValueError(
                f"Got an attention override without a gradient ({earlier}), expected one that "
                "calls the attention it is given. Take that node off the model for training."
            )
        return out

    return override


def watching(
    override: Forward,
    capture: AttentionCapture,
    text_length: int,
    found: list[Tensor],
    *,
    samples: slice | list[int] = slice(None),
) -> Forward:
    """The override, and what `capture` asks of this attention put into `found`.

    The mass comes with the attention itself, unless somebody else's override, a part of the batch
    or too many tokens are in the way: then attention is run once more for it.

    Args:
        samples: those of the batch that `capture` is about.
    """
    few = capture.tokens.shape[1] <= MOST_RIDING and samples == slice(None)
    rides = capture.masses and few and override is alone

    def watch(func: Forward, q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if rides:
            mask = _mask(kwargs.get("mask"))
            out, mass = attention_and_mass(q, k, v, capture.tokens, mask)
            out = _shaped(out, kwargs)
            found.append(mass[:, :, text_length:])
        else:
            if capture.masses:
                mass = attention_mass(q[samples, :, text_length:], k[samples], capture.tokens)
                found.append(mass)
            out = override(func, q, k, v, *args, **kwargs)
        if capture.outputs:
            rows = out.transpose(1, 2).flatten(2) if kwargs.get("skip_output_reshape") else out
            found.append(output_likeness(rows[samples], text_length, capture.tokens))
        return out

    return watch


# --- blocks ------------------------------------------------------------------------------------


def guarded_double(own: Forward, index: int) -> Forward:
    """A double block that is checkpointed, on request, and gives what is watched as outputs."""

    def forward(img: Tensor, txt: Tensor, *, transformer_options: Any, **rest: Any) -> Any:
        request: Request = transformer_options[REQUEST]
        capture = request.watched(index)

        def run(img: Tensor, txt: Tensor) -> tuple[Tensor, ...]:
            options = own_options(transformer_options, "double", index)
            found: list[Tensor] = []
            if capture is not None:
                options[OVERRIDE] = watching(options[OVERRIDE], capture, txt.shape[1], found)
            streams = {"img": own_copy(img), "txt": own_copy(txt)}
            return *own(**streams, transformer_options=options, **rest), *found

        img, txt, *found = _maybe_checkpointed(request, run, img, txt)
        if capture is not None:
            capture.put(index, found)
        if request.stop_after == index:
            raise Stopped
        return img, txt

    return forward


def guarded_single(own: Forward, index: int, *, number: int) -> Forward:
    """A single block, `number` among all, that is checkpointed and watched like a double one."""

    def forward(x: Tensor, *, transformer_options: Any, **rest: Any) -> Tensor:
        request: Request = transformer_options[REQUEST]
        capture = request.watched(number)

        def run(x: Tensor) -> tuple[Tensor, ...]:
            options = own_options(transformer_options, "single", index)
            found: list[Tensor] = []
            if capture is not None:
                text_length = x.shape[1] - request.image_length
                options[OVERRIDE] = watching(options[OVERRIDE], capture, text_length, found)
            return own(own_copy(x), transformer_options=options, **rest), *found

        x, *found = _maybe_checkpointed(request, run, x)
        if capture is not None:
            capture.put(number, found)
        return x

    return forward


def _maybe_checkpointed(request: Request, run: Forward, *streams: Tensor) -> Any:
    if not (request.checkpointing and torch.is_grad_enabled()):
        return run(*streams)
    return checkpoint(run, *streams, use_reentrant=False, preserve_rng_state=False)


# --- installing --------------------------------------------------------------------------------


def guarded_forwards(model: Any) -> dict[nn.Module, Forward]:
    """The replacement `forward` of every module of a Flux that needs one."""
    forwards: dict[nn.Module, Forward] = {}
    for module in model.modules():
        found = [forward for guard in LAYER_GUARDS if (forward := guard(module)) is not None]
        if found:
            forwards[module] = found[0]
    for index, block in enumerate(model.double_blocks):
        forwards[block] = guarded_double(block.forward, index)
    for index, block in enumerate(model.single_blocks):
        number = len(model.double_blocks) + index
        forwards[block] = guarded_single(block.forward, index, number=number)
    return forwards


@contextmanager
def guarded(model: Any) -> Iterator[None]:
    """All guards on a Flux for the time of the `with`; afterwards the model is as it was."""
    forwards = guarded_forwards(model)
    before = {module: vars(module).get("forward") for module in forwards}
    with outside_inference_mode(), declared_training():
        try:
            for module, forward in forwards.items():
                module.forward = forward
            yield
        finally:
            for module, forward in before.items():
                _give_back(module, forward)


def _give_back(module: nn.Module, forward: Forward | None) -> None:
    if forward is None:
        vars(module).pop("forward", None)
    else:
        module.forward = forward
