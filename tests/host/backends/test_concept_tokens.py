"""The concept's tokens with the tokenizer that Flux really uses, from ComfyUI's own files."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import Tensor

from erase_engine.concepts.planner import plan_concept
from erase_engine.concepts.request import ConceptRequest
from erase_engine.concepts.token_positions import concept_tokens, positions_in
from erase_engine.concepts.vocabulary import Kind

COMFYUI = Path(os.environ.get("COMFYUI_PATH") or Path(__file__).parents[3] / ".comfyui")
TOKENIZER = COMFYUI / "comfy" / "text_encoders" / "t5_tokenizer"


class T5Words:
    """T5's real tokens; a text's vector is the mean of fixed random vectors of them."""

    max_tokens = 256

    def __init__(self) -> None:
        transformers = pytest.importorskip("transformers")
        self.tokenizer = transformers.T5TokenizerFast.from_pretrained(TOKENIZER)
        self.table = torch.randn(32_128, 64, generator=torch.Generator().manual_seed(0))

    def token_ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False).input_ids)

    def pieces(self, text: str) -> list[str]:
        return self.tokenizer.convert_ids_to_tokens(self.token_ids(text))

    def positions(self, prompt: str, span: tuple[int, int] | None = None) -> tuple[int, ...]:
        return positions_in(self.token_ids, prompt, span, self.max_tokens)

    def vectors(
        self, texts: Sequence[str], *, on_text: Callable[[], None] = lambda: None
    ) -> Tensor:
        return torch.stack([self.table[[0, *self.token_ids(text)]].mean(0) for text in texts])


@pytest.fixture(scope="module")
def encoder() -> T5Words:
    if not TOKENIZER.is_dir():
        pytest.skip("no ComfyUI tree: set COMFYUI_PATH or run the set-up")
    return T5Words()


@pytest.mark.parametrize(
    ("prompt", "wording", "pieces"),
    [
        ("a photo of a dog", "dog", "▁dog"),
        ("dog", "dog", "▁dog"),
        ("Dog, asleep", "dog", "▁Dog"),
        ("DOG!", "dog", "▁DO G"),
        ("two dogs", "dog", "▁dogs"),
        ("a photo of (dog), asleep", "dog", "dog"),
        ("the dog's bowl", "dog", "▁dog"),
        ('a "dog"', "dog", "dog"),
        ("a dog-house", "dog", "▁dog"),
        ("dog,cat,dog", "dog", "▁dog dog"),
        ("a carpet by a car", "car", "▁car"),
        ("a house by Van Gogh", "van gogh", "▁Van ▁Go g h"),
        ("Van Gogh's house", "Van Gogh", "▁Van ▁Go g h"),
        ("a Van Gogh-like house", "Van Gogh", "▁Van ▁Go g h"),
        ("Elon Musk, Elon Musk", "Elon Musk", "▁El on ▁Musk ▁El on ▁Musk"),
        ("a striped star", "striped", "▁ striped"),
        ("a man, shaking hands with a robot", "shaking hands with", "▁shaking ▁hands ▁with"),
    ],
)
def test_tokens_spell_the_wording(encoder: T5Words, prompt: str, wording: str, pieces: str) -> None:
    found = concept_tokens(encoder, prompt, [wording])
    assert [encoder.pieces(prompt)[index] for index in found] == pieces.split()


def test_a_long_prompt_cuts_the_concept_off(encoder: T5Words) -> None:
    fits = "very " * 254 + "old dog"
    assert concept_tokens(encoder, fits, ["dog"]) == (255,)
    with pytest.raises(
        ValueError, match=r"Got the concept 'dog', which is cut off.*within the first 256 tokens"
    ):
        concept_tokens(encoder, "very " + fits, ["dog"])


@pytest.mark.parametrize(
    ("concept", "kind"),
    [
        ("golden retriever", "object"),
        ("Van Gogh", "style"),
        ("Donald Duck", "person"),
        ("kissing", "relation"),
        ("topless", "nudity"),
    ],
)
def test_every_sentence_of_a_plan_spells_its_word(
    encoder: T5Words, concept: str, kind: Kind
) -> None:
    request = ConceptRequest(concept=concept, kind=kind, synonyms=("Quizzical",), varied=0.2)
    made = plan_concept(request, encoder)
    assert len({pair.tokens for pair in made.pairs}) > 10
    for pair in made.pairs:
        pieces = encoder.pieces(pair.concept_prompt)
        said = "".join(pieces[index] for index in pair.tokens).replace("▁", " ").split(" ")
        assert " ".join(said).strip().lower() in " ".join([pair.word.lower()] * 3)
        swapped = pair.swap(made.irrelevant[0])
        assert concept_tokens(encoder, swapped, [made.irrelevant[0]])
