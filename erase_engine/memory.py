"""What a training will need, before it begins: one step is run on sizes alone, and counted.

On the meta device tensors have sizes and no values. A step on a twin of the model there asks for
what the real one will ask for, whatever the family. What a program holds besides is fitted to
`benchmarks/results/memory.json`, and a test holds the predictions to its rows.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from .closed_form.text_rows import TextRows
from .config import EraseConfig
from .interfaces import AttentionCapture, Conditioning, FlowModel, LatentGrid, Prompt
from .lora.adapters import adapted_layers

GIGABYTE = 2**30
META = torch.device("meta")
MEASURED_REST = 60 * 2**20  # bytes: kernels and buffers that are there once a model has run
SQUARES = 4  # float64 matrices of a closed form, each as wide as the text
# The adapters, their gradients and AdamW's two moments; of the last good state all but gradients.
LORA_COPIES = 4 + 3


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the peak of a training step, by what they are for."""

    weights: int
    kept: int  # from forward to backward: the blocks' inputs, or all that they keep
    working: int  # beside it at the peak, as a block runs or is recomputed; a cast weight
    lora: int  # adapters, gradients, AdamW, the last good state
    solved: int = 0  # rows and sums of a closed form, which stay beside the steps
    rest: int = MEASURED_REST

    @property
    def total(self) -> int:
        return sum(astuple(self))

    @property
    def beside_weights(self) -> int:
        """What has to be on the device whatever becomes of the weights."""
        return self.total - self.weights


def estimate_memory(
    twin: FlowModel,
    config: EraseConfig,
    prompt: Prompt,
    *,
    watched: int,
    weights: int,
    rows: TextRows | None = None,
) -> MemoryEstimate:
    """The peak of a step, by parts; what else the process holds is not in it.

    A config without steps has the closed form alone.

    Args:
        twin: the model that will be trained, on the meta device, inside its session.
        prompt: one as long as the longest.
        watched: text tokens of a prompt whose attention is read.
        weights: bytes of the real model's.
        rows: what a closed form is solved on.
    """
    slices = twin.linear_slices(adapted_layers(twin, config))
    rank = config.after_solving().lora.rank
    lora = twin.adapters(slices, rank=rank, generator=torch.Generator())
    for parameter in lora.parameters():
        parameter.grad = torch.empty_like(parameter)  # there before the step: counted with the LoRA
    kept = 0
    with fused_attention(), LiveBytes() as live, lora.attach(slices):
        if config.steps:
            total = torch.stack(list(_results(twin, config, prompt, watched))).sum()
            kept = live.now
            total.backward()
    return MemoryEstimate(
        weights=weights,
        kept=kept,
        working=live.peak - kept,
        lora=LORA_COPIES * sum(parameter.nbytes for parameter in lora.parameters()),
        solved=solved_bytes(rows) if rows else 0,
    )


def solved_bytes(rows: TextRows) -> int:
    """At the peak of `low_rank_solution`: rows as float32, and thrice as float64; square sums."""
    widest = rows.text.held.shape[1]
    return sum(each.numel() for each in rows.tensors) * (4 + 3 * 8) + SQUARES * 8 * widest**2


def trajectory_bytes(config: EraseConfig, shape: tuple[int, int, int]) -> int:
    """Float32 latents of all trajectories.

    A concept's or anchor's state has two answers of the teacher beside it, a keep prompt's one.
    """
    latents = 2 * 3 * config.paths + 2 * config.keep_paths
    return config.trajectory_steps * latents * math.prod(shape) * 4


def sampled_bytes(config: EraseConfig, latents: LatentGrid) -> int:
    """What is kept of sampling: trajectories, or the paths of one step; and drawn pictures.

    Of a closed form's recipe the most: of a concept that is trained.
    """
    config = config.after_solving()
    shape = latents.shape(config.height, config.width)
    latent = math.prod(shape) * 4
    if config.sampling == "cached":
        kept = trajectory_bytes(config, shape)
    else:
        kept = (config.trajectory_steps + 1) * max(config.batch, config.keep_per_step) * latent
    return kept + (config.paths * latent if config.weights.reconstruction > 0 else 0)


def described(
    memory: MemoryEstimate, config: EraseConfig, latents: LatentGrid, *, text_bytes: int
) -> str:
    """What a training will need, in a sentence for people.

    `text_bytes`: of text features, and of pictures that were given.
    """
    states = sampled_bytes(config, latents)
    work = "a step" if config.steps else "the closed form, beside which they need not fit"
    return (
        f"Expected to need about {gigabytes(memory.total)}: {gigabytes(memory.weights)} for the "
        f"weights and {gigabytes(memory.beside_weights)} for {work}; and "
        f"{gigabytes(states + text_bytes)} of the computer's memory for sampled states and text."
    )


def gigabytes(count: float) -> str:
    """Bytes for people, in the unit in which cards are sold, or a smaller one: never "0.0 GB"."""
    return f"{count / GIGABYTE:.1f} GB" if count > GIGABYTE / 10 else f"{count / 2**20:.0f} MB"


# --- a step on sizes alone -----------------------------------------------------------------------


def _results(
    twin: FlowModel, config: EraseConfig, prompt: Prompt, watched: int
) -> Iterator[Tensor]:
    """What the losses of a step are computed from, each as a number."""
    sizes = (prompt.text, prompt.pooled)
    text, pooled = (None if x is None else torch.empty(x.shape, device=META) for x in sizes)
    assert text is not None
    attacked = config.attack > 0 or config.solver == "solve"
    prompt = Prompt(text.requires_grad_(attacked), pooled)
    for rows in _passes(config):
        capture = None
        if config.weights.attention > 0 or config.weights.rsc > 0:
            tokens = torch.zeros(rows, watched, dtype=torch.long)
            capture = AttentionCapture(tokens, config.watched_blocks(twin.joint_blocks))
        shape = twin.latents.shape(config.height, config.width)
        x_t = torch.empty(rows, *shape, device=META)
        cond = Conditioning((prompt,) * rows)
        yield twin.velocity(x_t, torch.empty(rows, device=META), cond, capture=capture).sum()
        if capture is not None:
            yield from (mass.sum() for mass in capture.mass.values())


def _passes(config: EraseConfig) -> list[int]:
    """Samples of each pass among those that wait for one backward, where they are most.

    Of a closed form's recipe: where the concept is trained.
    """
    config = config.after_solving()
    erase = [config.batch]
    preserve = [config.keep_per_step] * sum(
        weight > 0
        for weight in (config.weights.keep, config.weights.rsc, config.weights.reconstruction)
    )
    return max(erase, preserve, key=sum)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of meta tensors made inside the `with`: those alive now, and their peak."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._known: set[int] = set()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        for each in tree_leaves((args, kwargs)):  # not made here: weights, inputs
            self._note(each, counted=False)
        out = func(*args, **(kwargs or {}))
        for each in tree_leaves(out):
            self._note(each, counted=True)
        return out

    def _note(self, value: Any, *, counted: bool) -> None:
        """Views of one storage are noted once."""
        if not (isinstance(value, Tensor) and value.is_meta):
            return
        storage = value.untyped_storage()
        if storage._cdata in self._known:
            return
        size = storage.nbytes() * counted
        self._known.add(storage._cdata)
        self.now += size
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._forget, storage._cdata, size)

    def _forget(self, storage: int, size: int) -> None:
        self._known.remove(storage)
        self.now -= size


@contextmanager
def fused_attention() -> Iterator[None]:
    """Attention of meta tensors as a GPU's kernels have it: torch would make all the scores."""

    def attend(query: Tensor, key: Tensor, value: Tensor, *rest: Any, **options: Any) -> Tensor:
        return _FusedAttention.apply(query, key, value)

    library = torch.library.Library("aten", "IMPL")
    library.impl("scaled_dot_product_attention", attend, "AutogradMeta")
    try:
        yield
    finally:
        library._destroy()


class _FusedAttention(torch.autograd.Function):
    """Keeps q, k, v, the output and a number for each query, as all fused kernels do."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        batch, heads, tokens, _ = q.shape
        out = q.new_empty(batch, tokens, heads, v.shape[-1]).transpose(1, 2)
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:-1], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Any:  # type: ignore[override]
        return tuple(map(torch.empty_like, ctx.saved_tensors[:3]))
