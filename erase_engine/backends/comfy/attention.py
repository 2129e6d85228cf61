"""The host's attention override: plain attention while training, looked at where that is asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from ...families.family import BlockList
from ..blocks import AttentionCall, BlockAttention

Forward = Callable[..., Any]
OPTIONS = "transformer_options"
OVERRIDE = "optimized_attention_override"  # the host's key in them


def plain_attention(
    q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None = None, **options: Any
) -> Tensor:
    """Softmax attention by torch's own kernel, which never depends on free memory.

    q, k, v are (B, H, N, D) with `skip_reshape`, else (B, N, H * D) or (B, N, H, D); returns
    (B, N, H * D), or (B, H, N, D) with `skip_output_reshape`.
    """
    q, k, v = (by_heads(x, heads, options) for x in (q, k, v))
    out = scaled_dot_product_attention(q, k, v, attn_mask=full_mask(mask))
    return out if options.get("skip_output_reshape") else out.transpose(1, 2).flatten(2)


def alone(func: Forward, *args: Any, **kwargs: Any) -> Tensor:
    """The attention override of the session where nobody else has one."""
    return plain_attention(*args, **kwargs)


def by_heads(x: Tensor, heads: int, options: Mapping[str, Any]) -> Tensor:
    """(B, H, N, D), whatever layout the caller of attention has."""
    if options.get("skip_reshape"):
        return x
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


def full_mask(mask: Tensor | None) -> Tensor | None:
    """As (B, 1 or H, 1 or N, N), whatever it came as."""
    while mask is not None and mask.ndim < 4:
        mask = mask.unsqueeze(-3) if mask.ndim == 3 else mask[None]
    return mask


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


def looked_at(override: Forward, look: BlockAttention) -> Forward:
    """The override, through which `look` sees each attention call."""

    def watch(
        func: Forward, q: Tensor, k: Tensor, v: Tensor, heads: int, *rest: Any, **kw: Any
    ) -> Any:
        mask = rest[0] if rest else kw.get("mask")

        def run() -> Tensor:
            out = override(func, q, k, v, heads, *rest, **kw)
            return out.transpose(1, 2).flatten(2) if kw.get("skip_output_reshape") else out

        seen = [by_heads(each, int(heads), kw) for each in (q, k, v)]
        call = AttentionCall(seen[0], seen[1], seen[2], full_mask(mask), run, override is alone)
        rows = look(call)
        if kw.get("skip_output_reshape"):
            return rows.unflatten(2, (int(heads), -1)).transpose(1, 2)
        return rows

    return watch


@contextmanager
def attending(
    blocks: BlockList, index: int, kwargs: Mapping[str, Any], look: BlockAttention
) -> Iterator[Mapping[str, Any]]:
    """A block's keyword arguments with options of its own, through which `look` sees attention.

    The host has one dict of options for all blocks: when a block is computed again in backward, it
    would say the last block's number. Raises ValueError where the options have been lost.
    """
    options = kwargs.get(OPTIONS) or {}
    if OVERRIDE not in options:
        raise ValueError(
            "Got a model whose forward pass another node pack has replaced by one that gives its "
            "blocks no transformer_options, expected the host's own. Take that pack's node "
            "(old PuLID or NAG versions do this) off the model for training, or update the pack."
        )
    own = own_options(options, blocks.kind, index)
    yield {**kwargs, OPTIONS: {**own, OVERRIDE: looked_at(own[OVERRIDE], look)}}


def own_options(options: dict[str, Any], kind: str, index: int) -> dict[str, Any]:
    """The options as this block must see them in backward too."""
    return {**options, "block_type": kind, "block_index": index}
