"""What to look at in a model's attention: the words, how, and in which blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from ..concepts.grammar import contains, words_elsewhere
from ..concepts.token_positions import concept_tokens
from ..interfaces import AttentionCapture, TextEncoder
from ..validation import shortened
from .mass import saliency

FEWEST_CONTRAST = 2  # words
View = Literal["training signal", "saliency"]
VIEWS: tuple[View, ...] = get_args(View)


@dataclass(frozen=True)
class Word:
    """A word to look for: its text tokens, and the words that saliency holds it against."""

    name: str
    tokens: tuple[int, ...]
    contrast: tuple[Word, ...] = ()


@dataclass(frozen=True)
class AttentionQuery:
    """The words to look for, how, and in which blocks."""

    words: tuple[Word, ...]
    view: View
    blocks: tuple[int, ...]

    @property
    def tokens(self) -> tuple[int, ...]:
        """Every text token that has to be watched, rising."""
        words = (word for each in self.words for word in (each, *each.contrast))
        return tuple(sorted({token for word in words for token in word.tokens}))

    def capture(self, samples: int = 1) -> AttentionCapture:
        """What to watch in a forward pass of so many samples with the words' prompt."""
        tokens = torch.tensor([self.tokens] * samples)
        outputs = self.view == "saliency"
        return AttentionCapture(tokens, self.blocks, outputs=outputs, masses=not outputs)

    def found(self, capture: AttentionCapture) -> dict[int, Tensor]:
        """What a forward pass has shown, by block."""
        return capture.likeness if self.view == "saliency" else capture.mass

    def maps(self, capture: AttentionCapture, sample: int = 0) -> Tensor:
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


def default_blocks(view: View, joint: int, blocks: int) -> tuple[int, ...]:
    """All joint blocks, as training reads them; for saliency the middle of the model.

    That is the later half of the joint blocks, where words settle, and as many of those after
    them: 19 of 57 give 9 to 28.
    """
    if view == "training signal":
        return tuple(range(joint))
    first = joint // 2
    return tuple(range(first, min(2 * joint - first, blocks)))


def located_words(
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


def _mass_map(look: AttentionQuery, word: Word, mass: Tensor) -> Tensor:
    """(L,) attention mass on the word's tokens out of (H, L, J), averaged over heads."""
    return mass.mean(dim=0)[:, look.columns(word)].sum(dim=-1)


def _saliency_map(look: AttentionQuery, word: Word, likeness: Tensor) -> Tensor:
    """(L,) the word's share, against its contrast, out of (L, J).

    A word's likeness is the mean of its tokens'.
    """
    words = (word, *word.contrast)
    own, *others = (likeness[:, look.columns(each)].mean(dim=-1) for each in words)
    return saliency(own, torch.stack(others, dim=-1))
