"""Text that several tokenizers read: where a word's tokens stand, and what is left out."""

from __future__ import annotations

from typing import Any, ClassVar

import comfy.sd
import pytest
import torch
from comfy.text_encoders import sd3_clip
from eraseanything_pack.erase_engine.backends.comfy.text_encoder import ComfyTextEncoder
from eraseanything_pack.erase_engine.backends.comfy.token_rows import is_chat
from eraseanything_pack.erase_engine.concepts.token_positions import concept_tokens
from eraseanything_pack.tinyworld.load import load_tiny
from families.encoders import CLIPS, family_of

PROMPT = "a red star above a striped circle"
CLIP = 32  # tokens of a chunk of the tiny SD3.5
SIZES = {
    "clip_l_model_config": {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_attention_heads": 2,
        "num_hidden_layers": 3,
        "projection_dim": 32,
    },
    "t5xxl_model_config": {
        "d_model": 4096,
        "d_ff": 32,
        "d_kv": 16,
        "num_heads": 2,
        "num_layers": 1,
    },
}


@pytest.fixture(scope="module")
def encoder() -> ComfyTextEncoder:
    return ComfyTextEncoder(load_tiny("SD3.5")[1])


def sd3(**parts: bool) -> Any:
    """The host's own SD3 CLIP of tiny encoders, as a loader of fewer files makes it."""

    class Target:
        params: ClassVar[dict[str, Any]] = {}
        clip = sd3_clip.sd3_clip(**parts, dtype_t5=torch.float32)
        tokenizer = sd3_clip.SD3Tokenizer

    sizes = {**SIZES, "clip_g_model_config": SIZES["clip_l_model_config"]}
    made = comfy.sd.CLIP(Target, model_options={**sizes, "dtype": torch.float32})
    with torch.no_grad():
        for each in made.cond_stage_model.parameters():
            each.normal_(std=0.02)
    return made


def test_a_word_stands_in_each_part(encoder: ComfyTextEncoder) -> None:
    """In CLIP's and in T5's: swapped for another, the features change from there on."""
    tokens = concept_tokens(encoder, PROMPT, ["star"])
    length = len(encoder.encode([PROMPT]).prompts[0].text)
    clip, t5 = encoder.parts(PROMPT, length)
    assert any(token in clip.places for token in tokens)
    assert any(token in t5.places for token in tokens)
    star, ring = (encoder.encode([PROMPT.replace("star", word)]) for word in ("star", "ring"))
    moved = (star.text - ring.text)[0].abs().amax(dim=-1) > 1e-6
    first = next(place for place in range(CLIP) if moved[place])  # CLIP reads from left to right
    assert first == min(tokens)


def test_the_parts_are_the_whole_text(encoder: ComfyTextEncoder) -> None:
    for prompt in ("", PROMPT, " ".join([PROMPT] * 5)):  # the last of several chunks
        length = len(encoder.encode([prompt]).prompts[0].text)
        parts = encoder.parts(prompt, length)
        order = torch.cat([part.order for part in parts])
        assert sorted(order.tolist()) == list(range(length))
        assert all(len(part.ids) == len(part.places) for part in parts)


def test_vectors_are_the_pooled_ones(encoder: ComfyTextEncoder) -> None:
    pooled = encoder.encode([PROMPT, ""]).pooled
    assert pooled is not None
    torch.testing.assert_close(encoder.vectors([PROMPT, ""]), pooled)


@pytest.mark.parametrize(
    ("missing", "parts"), [({"t5": False}, 1), ({"clip_g": False}, 2), ({}, 2)], ids=str
)
def test_encoders_may_be_left_out(missing: dict[str, bool], parts: int) -> None:
    with torch.inference_mode():
        encoder = ComfyTextEncoder(sd3(**missing))
        text = encoder.encode([PROMPT]).prompts[0].text
        found = encoder.parts(PROMPT, len(text))
        tokens = concept_tokens(encoder, PROMPT, ["star"])
    assert len(found) == parts
    assert len(tokens) == parts and max(tokens) < len(text)


def test_without_a_pooled_vector_it_is_refused() -> None:
    made = sd3(clip_l=False, clip_g=False)
    with pytest.raises(ValueError, match=r"without those that SD3 takes .* TripleCLIPLoader"):
        ComfyTextEncoder(made)


# --- other families: language models, and text that nobody pads ----------------------------------

of_each = pytest.mark.parametrize("name", list(CLIPS))


@pytest.fixture(scope="module")
def encoders() -> dict[str, ComfyTextEncoder]:
    with torch.inference_mode():
        return {name: ComfyTextEncoder(make()) for name, make in CLIPS.items()}


@of_each
def test_its_clip_is_known_by_its_tokens(name: str, encoders: Any) -> None:
    assert encoders[name].family.name == family_of(name)


@of_each
def test_features_are_those_of_clip_text_encode(name: str, encoders: Any) -> None:
    """Brackets are no weights, and nothing is padded that the host does not pad."""
    clip = encoders[name]._clip
    with torch.inference_mode():
        for prompt in ("", PROMPT, "a (red) star"):
            plain = prompt.replace("(", "\\(").replace(")", "\\)")
            literal = prompt if is_chat(clip.tokenizer) else plain  # a chat knows no weights
            expected = clip.encode_from_tokens(clip.tokenize(literal))
            found, _ = encoders[name].encode([prompt, PROMPT]).prompts
            assert torch.equal(found.text, expected[0])
            assert found.pooled is None


@of_each
def test_a_words_tokens_are_those_that_change_with_it(name: str, encoders: Any) -> None:
    encoder = encoders[name]
    with torch.inference_mode():
        other = PROMPT.replace("star", "heart")
        pair = encoder.encode([PROMPT, other]).prompts
        tokens = concept_tokens(encoder, PROMPT, ["star"])
    moved = (pair[0].text - pair[1].text).abs().amax(dim=-1) > 1e-6
    assert moved[list(tokens)].all()
    if is_chat(encoder._clip.tokenizer):  # a language model reads from left to right
        assert int(moved.nonzero()[0]) == min(tokens)


@of_each
def test_parts_of_a_chat_are_the_whole_text(name: str, encoders: Any) -> None:
    encoder = encoders[name]
    for prompt in ("", PROMPT):
        with torch.inference_mode():
            length = len(encoder.encode([prompt]).prompts[0].text)
        (part,) = encoder.parts(prompt, length)
        assert sorted([*part.order.tolist(), *part.head]) == list(range(length))
        assert part.places == encoder.positions(prompt)
        assert len(part.ids) == len(part.places) == len(encoder.token_ids(prompt))


@of_each
def test_a_meaning_is_the_mean_of_its_own_tokens(name: str, encoders: Any) -> None:
    encoder = encoders[name]
    with torch.inference_mode():
        (found,) = encoder.encode([PROMPT]).prompts
        expected = found.text[list(encoder.positions(PROMPT))].mean(dim=0)
        torch.testing.assert_close(encoder.vectors([PROMPT])[0], expected)
        assert encoder.vectors([""]).isfinite().all()
