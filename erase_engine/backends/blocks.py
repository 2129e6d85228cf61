"""A block of any family in any host: checkpointed on request, its attention looked at."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..attention.mass import attention_and_mass, attention_mass, output_likeness
from ..families.family import BlockList, NetLayout
from ..interfaces import AttentionCapture, Conditioning

Forward = Callable[..., Any]
MOST_RIDING = 64  # tokens whose mass comes with the attention: with a head, no more than 256 wide


@dataclass(frozen=True)
class Spans:
    """Where text and image stand among the tokens of joint attention."""

    text: slice
    image: slice

    @classmethod
    def of(cls, layout: NetLayout, net: Any, *, prompt: int, text: int, image: int) -> Spans:
        """In a net that reads `text` tokens, the last ones of them a prompt's, and an image's."""
        text += layout.registers(net)
        first = text if layout.text_first else image
        behind = first + -first % layout.multiple(net)
        if layout.text_first:
            return cls(slice(text - prompt, text), slice(behind, behind + image))
        return cls(slice(behind + text - prompt, behind + text), slice(0, image))

    @property
    def length(self) -> int:
        """Fewest tokens of an attention that is joint."""
        return max(self.text.stop, self.image.stop)


@dataclass(frozen=True)
class BlockRequest:
    """What one forward pass asks of the guarded blocks."""

    capture: AttentionCapture | None
    checkpointing: bool
    spans: Spans


@dataclass(frozen=True)
class AttentionCall:
    """One call of attention inside a block."""

    q: Tensor  # (B, H, N, D), as k and v
    k: Tensor
    v: Tensor
    mask: Tensor | None
    run: Callable[[], Tensor]  # computes it: (B, N, H * D)
    plain: bool  # whether that is torch's own attention and nothing else


@dataclass
class BlockAttention:
    """The attention of one run of one block: its first joint call is captured, where that is asked.

    Args:
        capture: what is asked; None for nothing.
        samples: those of the batch that `capture` is about.
    """

    capture: AttentionCapture | None
    spans: Spans
    samples: slice | list[int] = field(default_factory=lambda: slice(None))
    found: list[Tensor] = field(default_factory=list)
    calls: int = 0

    def __call__(self, call: AttentionCall) -> Tensor:
        """The call's output (B, N, H * D).

        The mass comes with the output of a plain call, unless it is of a part of the batch or of
        too many tokens: then, as for other calls, attention is run once more for it.
        """
        self.calls += 1
        if self.capture is None or self.found or call.k.shape[2] < self.spans.length:
            return call.run()
        return self._captured(self.capture, call)

    def _captured(self, capture: AttentionCapture, call: AttentionCall) -> Tensor:
        tokens = torch.where(capture.tokens < 0, -1, capture.tokens + self.spans.text.start)
        few = tokens.shape[1] <= MOST_RIDING and self.samples == slice(None)
        if capture.masses and few and call.plain:
            out, mass = attention_and_mass(call.q, call.k, call.v, tokens, call.mask)
            rows = out.transpose(1, 2).flatten(2)
            self.found.append(mass[:, :, self.spans.image])
        else:
            if capture.masses:
                image = call.q[self.samples][:, :, self.spans.image]
                mask = _of_queries(call.mask, self.samples, self.spans.image)
                self.found.append(attention_mass(image, call.k[self.samples], tokens, mask))
            rows = call.run()
        if capture.outputs:
            self.found.append(output_likeness(rows[self.samples], tokens, self.spans.image))
        return rows


def _of_queries(mask: Tensor | None, samples: slice | list[int], queries: slice) -> Tensor | None:
    """What a mask (B or 1, H or 1, N or 1, N) says of these samples and queries."""
    if mask is None:
        return None
    own = mask if len(mask) == 1 else mask[samples]
    return own if own.shape[2] == 1 else own[:, :, queries]


# How a host lets a block's attention be looked at: (the block's list, its number there, its keyword
# arguments, what looks) -> the keyword arguments to call it with, for as long as the `with` lasts.
Attending = Callable[
    [BlockList, int, Mapping[str, Any], BlockAttention], AbstractContextManager[Mapping[str, Any]]
]


class GuardedBlocks:
    """The blocks of one net, which are asked by each pass what they are to do."""

    def __init__(self, attending: Attending) -> None:
        self._attending = attending
        self._request: BlockRequest | None = None

    @contextmanager
    def asked(self, request: BlockRequest) -> Iterator[None]:
        """The request of the pass inside the `with`."""
        before, self._request = self._request, request
        try:
            yield
        finally:
            self._request = before

    def guarded(self, own: Forward, blocks: BlockList, index: int, number: int) -> Forward:
        """A block's forward that is checkpointed and captured as the pass asks.

        Args:
            own: what it computes.
            index: its place in its list; `number`: its place among all blocks.
        """

        def forward(*args: Any, **kwargs: Any) -> Any:
            request = self._request
            if request is None:  # somebody else's pass
                return own(*args, **kwargs)
            capture = request.capture
            if capture is not None and number not in capture.blocks:
                capture = None
            streams = _streams(blocks, args, kwargs)

            def run(*tensors: Tensor) -> tuple[Any, ...]:
                attention = BlockAttention(capture, request.spans)
                placed, named = _with_streams(streams, tensors, args, kwargs)
                with self._attending(blocks, index, named, attention) as given:
                    out = own(*placed, **given)
                _require_attention(attention)
                return out, *attention.found

            tensors = [stream for _, stream in streams]
            if request.checkpointing and torch.is_grad_enabled():
                kept = checkpoint(run, *tensors, use_reentrant=False, preserve_rng_state=False)
            else:
                kept = run(*tensors)
            out, *found = kept
            if capture is not None:
                capture.put(number, found)
            return out

        return forward


def own_copy(tensor: Tensor) -> Tensor:
    """A copy for a block to add its residuals to: checkpointing keeps the block's inputs."""
    return tensor.clone() if torch.is_grad_enabled() else tensor


Place = str | int  # of an argument: its name, or its position


def _streams(
    blocks: BlockList, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[tuple[Place, Tensor]]:
    """The arguments that carry tokens, and where they stand."""
    found: list[tuple[Place, Any]] = [
        (name, kwargs[name]) if name in kwargs else (place, args[place])
        for name, place in zip(blocks.streams, blocks.places, strict=True)
        if name in kwargs or place < len(args)
    ]
    return [(place, tensor) for place, tensor in found if tensor is not None]


def _with_streams(
    streams: list[tuple[Place, Tensor]],
    tensors: tuple[Tensor, ...],
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
) -> tuple[list[Any], dict[str, Any]]:
    """The block's arguments with copies of these tensors in their places."""
    placed, named = list(args), dict(kwargs)
    for (place, _), tensor in zip(streams, tensors, strict=True):
        if isinstance(place, str):
            named[place] = own_copy(tensor)
        else:
            placed[place] = own_copy(tensor)
    return placed, named


def _require_attention(attention: BlockAttention) -> None:
    """ValueError where a block has not called the attention that it was given."""
    if not attention.calls:
        raise ValueError(
            "Got a model whose attention another node pack has replaced for all models, expected "
            "the host's own, which training has to see. Switch that pack's attention patch off "
            "(KJNodes: Patch Sage Attention), restart, and run this again."
        )


# --- whole passes --------------------------------------------------------------------------------


def require_blocks(capture: AttentionCapture | None, count: int) -> None:
    """ValueError where a block to capture does not exist."""
    if capture and not (capture.blocks and set(capture.blocks) <= set(range(count))):
        raise ValueError(
            f"Got capture blocks {capture.blocks}, expected some of 0 to {count - 1}. "
            "Name blocks that this model has."
        )


def require_captured(capture: AttentionCapture | None) -> None:
    """ValueError where a block was left out of the pass, so that its attention is not known."""
    if capture is None:
        return
    found = capture.mass if capture.masses else capture.likeness
    if missing := sorted(set(capture.blocks) - set(found)):
        raise ValueError(
            f"Got a model on which another node leaves out block {missing[0]}, expected every "
            "block that is looked at to run. Take that node (skip layer, a cache) off the model, "
            "or name other blocks."
        )


OnePass = Callable[[Tensor, Tensor, Conditioning, AttentionCapture | None], Tensor]


def by_length(
    one: OnePass, x_t: Tensor, t: Tensor, cond: Conditioning, capture: AttentionCapture | None
) -> Tensor:
    """`one` for the prompts of each length apart: nets have no room for padding in between."""
    groups = list(cond.by_length())
    if len(groups) == 1:
        return one(x_t, t, cond, capture)
    parts, captures = [], []
    for rows, some in groups:
        own = capture and replace(capture, tokens=capture.tokens[rows], mass={}, likeness={})
        parts.append(one(x_t[rows], t[rows], some, own))
        captures.append(own)
    order = torch.tensor([row for rows, _ in groups for row in rows]).argsort()
    if capture:
        for name in ("mass", "likeness"):
            found = [getattr(own, name) for own in captures]
            for block in found[0]:
                whole = torch.cat([each[block] for each in found])[order]
                getattr(capture, name)[block] = whole
    return torch.cat(parts)[order]
