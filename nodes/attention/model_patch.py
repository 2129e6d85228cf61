"""A MODEL whose attention is watched while any sampler uses it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import comfy.patcher_extension as extension
from torch import Tensor

from ...erase_engine.attention.recorder import AttentionRecorder
from ...erase_engine.backends.comfy.guards import OVERRIDE, watching
from ...erase_engine.interfaces import AttentionCapture

KEY = "eraseanything_watch"
Options = dict[str, Any]


def watched(model: Any, watch: AttentionRecorder) -> Any:
    """A clone of the MODEL that tells the watch what it sees; no other model is touched.

    What attention there is, other nodes' too, is found out in each forward pass: so they may come
    before or after. State is in closures, for hosts copy a model's options deeply.
    """
    clone = model.clone()
    passing = _passing(watch, len(model.model.diffusion_model.double_blocks))
    for kind, wrapper in (
        (extension.WrappersMP.OUTER_SAMPLE, _sampling(watch)),
        (extension.WrappersMP.DIFFUSION_MODEL, passing),
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


def _passing(watch: AttentionRecorder, double_blocks: int) -> Callable[..., Tensor]:
    """The host's wrapper of one forward pass: (executor, x, t, context, ..., options)."""

    def wrapper(executor: Any, x: Tensor, t: Tensor, context: Tensor, *args: Any, **kw: Any) -> Any:
        seen = watch.now
        samples = watch.samples_of(context) if seen is not None and seen.fits(x) else []
        if seen is None or not samples:
            return executor(x, t, context, *args, **kw)
        *between, options = args
        capture = watch.look.capture(len(samples))
        options = _looking(options, capture, samples, double_blocks)
        out = executor(x, t, context, *between, options, **kw)
        seen.add(watch.look, capture, samples, float(t[samples[0]]))
        return out

    return wrapper


def _looking(
    options: Options, capture: AttentionCapture, samples: list[int], double_blocks: int
) -> Options:
    """The pass's options, with the blocks' attention looked at on its way."""
    before = {"double": 0, "single": double_blocks}  # blocks of the other kind
    override = options.get(OVERRIDE, lambda func, *args, **kwargs: func(*args, **kwargs))
    text_lengths: list[int] = []

    def measure_text(args: dict[str, Any]) -> dict[str, Any]:
        text_lengths.append(args["txt"].shape[1])
        return args

    def look(func: Any, *args: Any, **kwargs: Any) -> Tensor:
        place = kwargs.get("transformer_options") or {}
        kind = place.get("block_type")
        block = before[kind] + place["block_index"] if kind in before else None
        if block is None or block not in capture.blocks:
            return override(func, *args, **kwargs)
        found: list[Tensor] = []
        watch = watching(override, capture, text_lengths[-1], found, samples=samples)
        out = watch(func, *args, **kwargs)
        capture.put(block, found)
        return out

    patches = options.get("patches", {})
    last = {"post_input": [*patches.get("post_input", []), measure_text]}
    return {**options, OVERRIDE: look, "patches": {**patches, **last}}
