"""Attention maps to look at: where in the picture a model looks for each word of a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from einops import rearrange
from torch import Tensor

from .attention import saliency
from .backends.base import Capture, Conditioning, FlowBackend, TextEncoder
from .flow import add_noise, euler_path
from .sentence import concept_tokens, contains, shortened, words_elsewhere

PATCH = 2  # an image token covers 2 x 2 latent pixels
FEWEST_CONTRAST = 2  # words
View = Literal["training signal", "saliency"]
VIEWS: tuple[View, ...] = get_args(View)


# --- what to look at ---------------------------------------------------------------------------


@dataclass(frozen=True)
class Word:
    """A word to look for: its text tokens, and the words that saliency holds it against."""

    name: str
    tokens: tuple[int, ...]
    contrast: tuple[Word, ...] = ()


@dataclass(frozen=True)
class Look:
    """The words to look for, how, and in which blocks."""

    words: tuple[Word, ...]
    view: View
    blocks: tuple[int, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        """Every text token that has to be watched, rising."""
        words = (word for each in self.words for word in (each, *each.contrast))
        return tuple(sorted({token for word in words for token in word.tokens}))

    def capture(self, samples: int = 1) -> Capture:
        """What to watch in a forward pass of so many samples with the words' prompt."""
        tokens = torch.tensor([self.tokens] * samples)
        outputs = self.view == "saliency"
        return Capture(tokens, self.blocks, outputs=outputs, masses=not outputs)

    def found(self, capture: Capture) -> dict[int, Tensor]:
        """What a forward pass has shown, by block."""
        return capture.likeness if self.view == "saliency" else capture.mass

    def maps(self, capture: Capture, sample: int = 0) -> Tensor:
        """(W, L): a map for each word from a sample's forward pass, averaged over the blocks."""
        read = _saliency_map if self.view == "saliency" else _mass_map
        blocks = [self.found(capture)[block][sample] for block in self.blocks]
        maps = [
            torch.stack([read(self, word, b) for b in blocks]).mean(dim=0) for word in self.words
        ]
        return torch.stack(maps).cpu()

    def columns(self, word: Word) -> list[int]:
        """Where the word's tokens stand in what is captured."""
        return [self.tokens.index(token) for token in word.tokens]


def default_blocks(view: View, doubles: int, singles: int) -> tuple[int, ...]:
    """All double blocks, as training reads them; for saliency the middle of the model.

    That is the later half of the double blocks, where words settle, and as many single ones after
    them: 19 and 38 give 9 to 28.
    """
    if view == "training signal":
        return tuple(range(doubles))
    first = doubles // 2
    return tuple(range(first, doubles + min(doubles - first, singles)))


def words_to_look_for(
    encoder: TextEncoder, prompt: str, names: Sequence[str], *, view: View, contrast: Sequence[str]
) -> tuple[Word, ...]:
    """The words with their tokens in the prompt, and for saliency with what each is held against.

    Args:
        names: words of the prompt.
        contrast: words of the prompt to hold each against; empty takes those outside its phrase.

    Raises:
        ValueError: a word is not in the prompt, or has fewer than two others to be held against.
    """

    def located(name: str, others: Sequence[str] = ()) -> Word:
        return Word(name, concept_tokens(encoder, prompt, [name]), tuple(map(located, others)))

    if view == "training signal":
        return tuple(located(name) for name in names)
    return tuple(located(name, _contrast(prompt, name, contrast)) for name in names)


def _contrast(prompt: str, name: str, chosen: Sequence[str]) -> tuple[str, ...]:
    others = tuple(chosen or words_elsewhere(prompt, name))
    others = tuple(each for each in others if not contains(name, [each]))
    if len(others) < FEWEST_CONTRAST:
        raise ValueError(
            f"Got {len(others)} words to hold '{shortened(name)}' against in the prompt "
            f"'{shortened(prompt)}', expected at least {FEWEST_CONTRAST}. Write a longer prompt, "
            "name other words of it as contrast, or choose the training signal."
        )
    return others


def _mass_map(look: Look, word: Word, mass: Tensor) -> Tensor:
    """(L,) attention mass on the word's tokens out of (H, L, J), averaged over heads."""
    return mass.mean(dim=0)[:, look.columns(word)].sum(dim=-1)


def _saliency_map(look: Look, word: Word, likeness: Tensor) -> Tensor:
    """(L,) the word's share, against its contrast, out of (L, J).

    A word's likeness is the mean of its tokens'.
    """
    words = (word, *word.contrast)
    own, *others = (likeness[:, look.columns(each)].mean(dim=-1) for each in words)
    return saliency(own, torch.stack(others, dim=-1))


# --- looking -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class AttentionMaps:
    """One map for each step and word, and the picture that was sampled meanwhile.

    `steps` (S, W, h, w): averaged over double blocks (and heads); between 0 and 1. Training signal:
    the attention mass that a place of the picture gives to the word's tokens. Saliency: the word's
    share of the place. `latent` (1, C, h, w).
    """

    steps: Tensor
    latent: Tensor

    @property
    def maps(self) -> Tensor:
        """(W, h, w): the steps' mean."""
        return self.steps.mean(dim=0)

    @property
    def means(self) -> list[float]:
        """Each word's value, averaged over picture and steps."""
        return self.maps.mean(dim=(1, 2)).tolist()


class Recorder:
    """Forward passes of one prompt, with their maps kept."""

    def __init__(self, backend: FlowBackend, cond: Conditioning, look: Look) -> None:
        self._backend, self._cond, self._look = backend, cond, look
        self._maps: list[Tensor] = []

    def velocity(self, x: Tensor, t: Tensor) -> Tensor:
        """v(x, t) of one sample, on the CPU."""
        capture = self._look.capture()
        v = self._backend.velocity(x, t, self._cond, capture=capture).cpu()
        self._maps.append(self._look.maps(capture))
        return v

    def steps(self, latent_height: int) -> Tensor:
        """(S, W, h, w): the maps of every pass."""
        rows = latent_height // PATCH
        return rearrange(torch.stack(self._maps), "s w (y x) -> s w y x", y=rows)


@torch.no_grad()
def attention_maps(
    backend: FlowBackend,
    cond: Conditioning,
    look: Look,
    *,
    noise: Tensor,
    times: Tensor,
    on_step: Callable[[], None] = lambda: None,
) -> AttentionMaps:
    """Samples one picture and watches the attention on the way.

    Args:
        cond: one prompt.
        noise: (1, C, h, w).
        times: (S + 1,) from 1 to 0.
        on_step: called after each step; may raise to cancel.
    """
    recorder = Recorder(backend, cond, look)

    def velocity(x: Tensor, t: Tensor) -> Tensor:
        v = recorder.velocity(x, t)
        on_step()
        return v

    latent = euler_path(velocity, noise, times)[:, -1]
    return AttentionMaps(recorder.steps(noise.shape[-2]), latent)


@torch.no_grad()
def maps_of_picture(
    backend: FlowBackend,
    cond: Conditioning,
    look: Look,
    *,
    latent: Tensor,
    noise: Tensor,
    times: Tensor,
) -> AttentionMaps:
    """The maps of a picture that is there already: noised to each time, and one pass at each.

    Args:
        latent: (1, C, h, w) in model space.
        noise: the same shape.
        times: (S,) in (0, 1].
    """
    recorder = Recorder(backend, cond, look)
    for t in times:
        recorder.velocity(add_noise(latent, noise, t[None]), t[None])
    return AttentionMaps(recorder.steps(latent.shape[-2]), latent)
