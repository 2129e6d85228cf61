"""What the engine has to know of a model family beyond what its hosts can be asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from ..interfaces import Entering


@dataclass(frozen=True)
class TargetSet:
    """Layers that are adapted, by canonical (diffusers) names.

    `{}` in the names of `block` stands for the number of a joint block.
    """

    block: tuple[str, ...]
    outside: tuple[str, ...] = ()

    def names(self, joint_blocks: int) -> list[str]:
        """All names in a model with so many joint blocks: block by block, then those outside."""
        blocks = [name.format(i) for i in range(joint_blocks) for name in self.block]
        return [*blocks, *self.outside]


@dataclass(frozen=True)
class BlockList:
    """A list of blocks in a net, and which of their arguments carry tokens."""

    path: str  # of the list, seen from the net
    streams: tuple[str, ...]  # names of these arguments
    places: tuple[int, ...]  # where they stand when they are given by position
    joint: bool = False  # here text and image meet: training reads its attention
    kind: str = ""  # the host's name for these blocks in its options


@dataclass(frozen=True)
class NetLayout:
    """How one host builds the family's net."""

    classes: frozenset[str]  # exact names: subclasses are other models
    blocks: tuple[BlockList, ...]  # in the order in which they run, joint ones first
    size: Callable[[Any], tuple[int, int]]  # of a net: width and heads
    refusal: Callable[[Any], str]  # what makes a net of these classes unfit; "" where nothing does
    text_first: bool = True  # in its joint attention; else the image is
    norms: Mapping[str, str] = field(default_factory=dict)  # of text, by the entrance behind them
    registers: Callable[[Any], int] = lambda net: 0  # tokens of a net's own, before its text
    # A net fills its text and its image up at their ends, to a multiple of so many tokens.
    multiple: Callable[[Any], int] = lambda net: 1
    # Whether samplers guide a net, by a second pass without the prompt; an input does others.
    cfg: Callable[[Any], bool] = lambda net: False

    def entering(self, net: Any, name: str, text: Tensor) -> Tensor:
        """What a net's entrance is given for text features (N, n), which may be normed first."""
        norm = self.norms.get(name)
        return net.get_submodule(norm)(text) if norm else text

    def cfg_scale(self, net: Any, guidance: float | None) -> float:
        """What samplers are to guide this net with; 1 is not at all."""
        return 1.0 if guidance is None or not self.cfg(net) else guidance

    def counts(self, net: Any) -> tuple[int, ...]:
        """How many blocks each list of a net has."""
        return tuple(len(net.get_submodule(each.path)) for each in self.blocks)

    def joint_blocks(self, net: Any) -> int:
        """How many blocks of a net have a stream of text of their own."""
        counts = zip(self.blocks, self.counts(net), strict=True)
        return sum(count for each, count in counts if each.joint)


@dataclass(frozen=True)
class Pass:
    """What one forward pass is given."""

    x_t: Tensor  # (B, C, h, w)
    t: Tensor  # (B,) from 1 (noise) to 0
    text: Tensor  # (B, T, D)
    pooled: Tensor | None  # (B, P)
    guidance: Tensor | None  # (B,)


@dataclass(frozen=True)
class DiffusersCalls:
    """How a diffusers net of the family is called."""

    inputs: Callable[[Pass], dict[str, Any]]  # keyword arguments of its forward
    velocity: Callable[[Any, Pass], Tensor]  # its output as (B, C, h, w)
    latent_channels: Callable[[Any], int]  # of a net
    guided: Callable[[Any], bool] = lambda net: False  # whether a net has a guidance input
    # What exponential times are shifted by; None: by the most that the scheduler's file says.
    shift: float | None = None


@dataclass(frozen=True)
class PublishedFile:
    """A transformer as one published file."""

    marker: str  # a weight that such files of this family have, and no others
    own: str  # a weight that files in diffusers' own layout have
    converter: str  # diffusers' function that gives a published file its own names
    config: Callable[[Mapping[str, Any]], dict[str, Any]]  # of a net with these weights
    scheduler: Callable[[Any], dict[str, Any]]  # of a net that came without one


@dataclass(frozen=True)
class Chat:
    """How a language model is asked for the features of a prompt."""

    model: str  # its kind, as transformers' config.json has it
    template: str  # what it reads, {} in it for the prompt
    layers: tuple[int, ...]  # whose features stand side by side; 0 is its input, -1 the last
    headless: bool = False  # nothing before the prompt reaches the net
    length: int = 0  # tokens that each text is padded to; 0: to none


@dataclass(frozen=True)
class DiffusersFiles:
    """What lies in a diffusers folder of the family, and in a single published file."""

    text: tuple[tuple[str, str], ...]  # folder and class of transformers, tokenizer by encoder
    # Which of these encoders make each part of the net's text, and which the pooled vector.
    words: tuple[tuple[int, ...], ...] = ((0,),)
    pooled: tuple[int, ...] = ()
    shortest: int = 1  # tokens that the last part is padded to at least; ComfyUI pads to as many
    chats: tuple[Chat, ...] = ()  # where its one encoder is a language model, one of these
    published: PublishedFile | None = None  # None: a folder alone can be read
    pictures: bool = True  # whether its autoencoder is diffusers' AutoencoderKL


@dataclass(frozen=True)
class DiffusersSide:
    """A family in diffusers."""

    layout: NetLayout
    calls: DiffusersCalls
    files: DiffusersFiles


Encoder = tuple[str, str]  # ComfyUI's names: of its tokens, and of the encoder itself


@dataclass(frozen=True)
class ComfyText:
    """Text encoders in ComfyUI that nets of a family take their text from."""

    # Parts of the net's text in a row, each of one encoder or of several side by side.
    words: tuple[tuple[Encoder, ...], ...]
    loader: str  # how people load them
    pooled: tuple[Encoder, ...] = ()  # those that the pooled vector is made of
    tokenizer: str = ""  # its class, where other families' tokens have the same name
    headless: bool = False  # of a chat's template, nothing before the prompt reaches the net

    @property
    def encoders(self) -> tuple[Encoder, ...]:
        """All of them, each once."""
        return tuple(dict.fromkeys((*(one for part in self.words for one in part), *self.pooled)))


@dataclass(frozen=True)
class Family:
    """One family of flow models."""

    name: str  # for people and for files
    models: str  # what people load
    architecture: str  # in LoRA files, as LoRA managers and trainers call it: modelspec's
    version: str  # and that of `ss_base_model_version`
    comfy: NetLayout  # classes are those of comfy.model_base
    diffusers: DiffusersSide | None  # None: in ComfyUI only, so far
    targets: Mapping[str, TargetSet]
    entrances: Mapping[str, Entering]  # layers through which text comes in
    texts: tuple[ComfyText, ...]
    pixels_per_latent: int = 8
    left_padded: int = 0  # tokens that a net's text is filled up to in front, where it is
    experimental: str = ""  # what people are to know before a training
    prefix: str = "transformer."  # of layers in LoRA files

    def describe(self, layout: NetLayout, net: Any) -> str:
        """The model's kind and size in words: alike in all hosts, for files and messages."""
        width, heads = layout.size(net)
        blocks = " + ".join(map(str, layout.counts(net)))
        return f"{self.name}, {blocks} blocks, {width} wide, {heads} heads"

    def target_names(self, target: str, joint_blocks: int) -> list[str]:
        """Canonical layer names of a target set; ValueError for one that the family lacks."""
        if target not in self.targets:
            raise ValueError(
                f"Got target {target!r}, expected one of {', '.join(self.targets)} for a "
                f"{self.name} model. Choose {next(iter(self.targets))}."
            )
        return self.targets[target].names(joint_blocks)
