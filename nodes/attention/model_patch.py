"""A MODEL whose attention is recorded while any sampler uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.patcher_extension as extension
from torch import Tensor

from ...erase_engine.attention.recorder import AttentionRecorder
from ...erase_engine.backends.blocks import BlockAttention, Spans
from ...erase_engine.backends.comfy.attention import OVERRIDE, Forward, by_heads, looked_at
from ...erase_engine.backends.comfy.model import spans_of, supported_family
from ...erase_engine.interfaces import AttentionCapture

KEY = "eraseanything_watch"
Options = dict[str, Any]


def watched(model: Any, watch: AttentionRecorder) -> Any:
    """A clone of the MODEL that tells the recorder what it sees; no other model is touched.

    What attention there is, other nodes' too, is found out in each forward pass: so they may come
    before or after. State is in closures, for hosts copy a model's options deeply.
    """
    clone = model.clone()
    for kind, wrapper in (
        (extension.WrappersMP.OUTER_SAMPLE, _sampling(watch)),
        (extension.WrappersMP.APPLY_MODEL, _passing(watch, model)),
    ):
        extension.add_wrapper_with_key(
            kind, KEY, wrapper, clone.model_options, is_model_options=True
        )
    return clone


def _sampling(watch: AttentionRecorder) -> Callable[..., Tensor]:
    """The host's wrapper of one sampling: (executor, noise, ...)."""

    def wrapper(executor: Any, noise: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        with watch.sampling(noise.shape) as seen:
            latent = executor(noise, *args, **kwargs)
            seen.latent = latent.float().cpu()
        return latent

    return wrapper


def _passing(watch: AttentionRecorder, model: Any) -> Callable[..., Tensor]:
    """The host's wrapper of one pass of the model: (executor, x, sigma, c_concat, text, ...)."""
    family, net = supported_family(model), model.model.diffusion_model

    def wrapper(
        executor: Any,
        x: Tensor,
        sigma: Tensor,
        c_concat: Any = None,
        text: Any = None,
        control: Any = None,
        transformer_options: Any = None,
        **kwargs: Any,
    ) -> Tensor:
        def passed(options: Options) -> Tensor:
            return executor(x, sigma, c_concat, text, control, options, **kwargs)

        options, seen = transformer_options or {}, watch.now
        if seen is None or text is None or not seen.fits(x):
            return passed(options)
        samples = watch.samples_of(text)
        if not samples:
            return passed(options)
        capture = watch.look.capture(len(samples))
        spans = spans_of(family, net, text, x, watch.length)
        look = _nth_joint_call(options.get(OVERRIDE), capture, spans, samples)
        out = passed({**options, OVERRIDE: look})
        seen.add(watch.look, capture, samples, float(sigma[samples[0]]))
        return out

    return wrapper


def _nth_joint_call(
    earlier: Forward | None, capture: AttentionCapture, spans: Spans, samples: list[int]
) -> Forward:
    """The pass's attention override: joint call number n is block n's, and looked at if asked.

    Other nodes may replace blocks; the calls of attention come in the blocks' order all the same.
    """
    override = earlier or (lambda func, *args, **kwargs: func(*args, **kwargs))
    block = -1

    def look(func: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, *rest: Any, **kw: Any) -> Any:
        nonlocal block
        if by_heads(k, heads, kw).shape[2] < spans.length:
            return override(func, q, k, v, heads, *rest, **kw)
        block += 1
        attention = BlockAttention(capture if block in capture.blocks else None, spans, samples)
        out = looked_at(override, attention)(func, q, k, v, heads, *rest, **kw)
        if attention.found:
            capture.put(block, attention.found)
        return out

    return look
