"""What a training will need, before it begins: bytes from the sizes, seconds from one pass.

Two kinds of numbers stand here. What a block keeps is counted in its code, in streams: one stream
is all tokens of the batch, `hidden` wide, in the compute dtype. What comes and goes inside a block
cannot be counted so; those constants are fitted to `benchmarks/results/memory.json`, and a test
holds the predictions to its rows.
"""

from __future__ import annotations

from dataclasses import astuple, dataclass
from typing import Any

from .config import PIXELS_PER_TOKEN, EraseConfig
from .lora.targets import TARGETS, TargetSet

HIDDEN, HEAD = 3072, 128  # FLUX.1's width, and that of one of its heads
GIGABYTE = 2**30

# Outside the blocks: widths of what enters (latent, time, guidance, pooled text, text) or leaves.
LATENT, TIME, POOLED, TEXT = 64, 256, 768, 4096

# Streams that a block keeps for its backward, counted by what autograd saves (a host test
# does it again); frozen Linears keep nothing.
DOUBLE_STREAMS = 10  # 2 norms' inputs, q k v, attention out, 4 before GELU
SINGLE_STREAMS = 11  # the norm's input, 7 of q k v and before GELU, q k after RoPE, attention out
FLOAT_STREAMS = 2  # q k before their norms, which compute in float32, whatever the others do
WATCH_COLUMNS = 32  # of a head's own, by which q, k, v and the output of a watched attention widen
# With the pooled text trained every modulation has a gradient, and what it scales is kept.
POOLED_DOUBLE_STREAMS, POOLED_SINGLE_STREAMS = 4, 2
CAST_LAYER = 5  # the Linear whose weight is cast at the peak: (hidden, 5 hidden), a single's last

# Fitted to the rows of 1 + 1 and 2 + 2 blocks, on a CPU: a GPU's own kernels may need others.
MEASURED_STREAMS = 11.5  # of passing tensors while a block runs, beside what it keeps
MEASURED_REST = 65 * 2**20  # bytes: kernels and buffers that are there once a model has run
BACKWARD = 1.0  # of a forward pass: weights get no gradient; 0.6 to 1.2, growing with the tokens

LORA_COPIES = 4  # float32: the adapter, its gradient, and AdamW's two moments


@dataclass(frozen=True, kw_only=True)
class TrainingSize:
    """Everything that memory depends on; bytes are those of one number."""

    depth: int  # double blocks
    singles: int
    image_tokens: int
    text_tokens: int
    batch: int
    weight_bytes: int
    compute_bytes: int
    rank: int = 8
    checkpointing: bool = True
    hidden: int = HIDDEN
    targets: str = "text_qk"

    def __post_init__(self) -> None:
        low = dict.fromkeys(("image_tokens", "text_tokens", "batch", "rank", "hidden"), 1)
        low |= dict.fromkeys(("depth", "weight_bytes", "compute_bytes"), 1)
        for name, least in {**low, "singles": 0}.items():
            if getattr(self, name) < least:
                raise ValueError(
                    f"Got {name} {getattr(self, name)}, expected at least {least}. Give the "
                    "model's own sizes."
                )

    @classmethod
    def of(cls, config: EraseConfig, text_tokens: int, **model: Any) -> TrainingSize:
        """A training's; `model` holds depth, singles, hidden, weight_bytes and compute_bytes."""
        return cls(
            image_tokens=tokens_of(config.width, config.height),
            text_tokens=text_tokens,
            batch=max(config.batch, config.keep_per_step),
            rank=config.lora.rank,
            targets=config.lora.targets,
            **model,
        )

    @property
    def layers(self) -> TargetSet:
        """What is adapted."""
        return TARGETS[self.targets]

    @property
    def adapter_numbers(self) -> int:
        """A's and B's of all adapters; in a block every layer is (hidden, hidden)."""
        outside = (POOLED + 3 * self.hidden) * bool(self.layers.outside)
        return self.rank * (self.depth * len(self.layers.block) * 2 * self.hidden + outside)

    @property
    def stream(self) -> int:
        """Bytes of one stream: batch x tokens x hidden in the compute dtype."""
        tokens = self.image_tokens + self.text_tokens
        return self.batch * tokens * self.hidden * self.compute_bytes

    @property
    def float_streams(self) -> int:
        """Bytes of those that are float32 in any case."""
        return FLOAT_STREAMS * self.stream * 4 // self.compute_bytes

    @property
    def double_keeps(self) -> int:
        """Bytes that a watched double block keeps.

        In float32 the norms' inputs are no copies: they hold on to all of q k v, v included.
        """
        streams = DOUBLE_STREAMS + POOLED_DOUBLE_STREAMS * bool(self.layers.outside)
        seen = 4 * self.stream * WATCH_COLUMNS // HEAD
        held = self.stream if self.compute_bytes >= 4 else 0
        copied = self.float_streams + self.adapters_keep
        return streams * self.stream + held + seen + copied

    @property
    def adapters_keep(self) -> int:
        """Bytes of the float32 copies of what the adapters of a double block are given."""
        text = self.layers.text_inputs * self.text_tokens
        image = self.layers.image_inputs * self.image_tokens
        return 4 * self.batch * (text + image) * self.hidden

    @property
    def single_keeps(self) -> int:
        """Bytes that a single block keeps; in float32 its q and k are parts of its 7 streams."""
        streams = SINGLE_STREAMS + POOLED_SINGLE_STREAMS * bool(self.layers.outside)
        copied = self.float_streams if self.compute_bytes < 4 else 0
        return streams * self.stream + copied


@dataclass(frozen=True)
class MemoryEstimate:
    """Bytes at the peak of a training step, by what they are for."""

    weights: int
    kept: int  # from forward to backward: the blocks' inputs, or all that they keep
    working: int  # the largest block while it runs, with a Linear's weight cast
    lora: int  # adapters, gradients, AdamW
    rest: int

    @property
    def total(self) -> int:
        return sum(astuple(self))

    @property
    def beside_weights(self) -> int:
        """What has to be on the device whatever becomes of the weights."""
        return self.total - self.weights


def tokens_of(width: int, height: int) -> int:
    """Image tokens of a picture of so many pixels."""
    return (width // PIXELS_PER_TOKEN) * (height // PIXELS_PER_TOKEN)


def weights_of(depth: int, singles: int, hidden: int = HIDDEN) -> int:
    """How many numbers a FLUX.1-dev of so many blocks has.

    depth (36 h^2 + 30 h + 4 d) + singles (15 h^2 + 11 h + 2 d) + those outside the blocks
    """
    double = 36 * hidden**2 + 30 * hidden + 4 * HEAD
    single = 15 * hidden**2 + 11 * hidden + 2 * HEAD
    outside = 5 * hidden**2 + (2 * LATENT + 2 * TIME + POOLED + TEXT + 10) * hidden + LATENT
    return depth * double + singles * single + outside


def bank_bytes(states: int, channels: int, latent_size: tuple[int, int]) -> int:
    """Float32 latents that the banks hold for so many states of each of their three kinds of paths.

    A concept's or anchor's state has two answers of the teacher beside it, a keep prompt's one.
    """
    height, width = latent_size
    return states * (3 + 3 + 2) * channels * height * width * 4


def described(memory: MemoryEstimate, config: EraseConfig, channels: int) -> str:
    """What a training will need, in a sentence for people."""
    states = bank_bytes(config.paths * config.trajectory_steps, channels, config.latent_size)
    return (
        f"Expected to need about {gigabytes(memory.total)}: {gigabytes(memory.weights)} for the "
        f"weights and {gigabytes(memory.beside_weights)} for a step; and {gigabytes(states)} of "
        "the computer's memory for sampled states."
    )


def gigabytes(count: float) -> str:
    """Bytes for people, in the unit in which cards are sold."""
    return f"{count / GIGABYTE:.1f} GB"


def estimate_memory(setting: TrainingSize) -> MemoryEstimate:
    """The peak of a step, by parts; what else the process holds is not in it."""
    return MemoryEstimate(
        weights=weights_of(setting.depth, setting.singles, setting.hidden) * setting.weight_bytes,
        kept=_kept(setting),
        working=_working(setting),
        lora=LORA_COPIES * 4 * setting.adapter_numbers,
        rest=MEASURED_REST,
    )


def _kept(setting: TrainingSize) -> int:
    """Checkpointed, every block's input; else everything that backward will ask for."""
    if setting.checkpointing:
        return (setting.depth + setting.singles) * setting.stream
    return setting.depth * setting.double_keeps + setting.singles * setting.single_keeps


def _working(setting: TrainingSize) -> int:
    """What passes through a block, and, recomputed, what one block keeps; and a cast weight."""
    passing = int(MEASURED_STREAMS * setting.stream)
    recomputed = max(setting.double_keeps, setting.single_keeps)
    cast = CAST_LAYER * setting.hidden**2 * setting.compute_bytes
    parts = passing, recomputed * setting.checkpointing
    return sum(parts) + cast * (setting.weight_bytes != setting.compute_bytes)


def predicted_seconds(
    forward_s: float, *, plain: int, trained: int, checkpointing: bool = True
) -> float:
    """forward_s (plain + trained (1 + [checkpointing] + BACKWARD)).

    Args:
        forward_s: measured seconds of a forward pass.
        plain: such passes without a gradient, as the banks are sampled with.
        trained: such passes with one.
        checkpointing: each block runs once more in backward.
    """
    return forward_s * (plain + trained * (1 + checkpointing + BACKWARD))
