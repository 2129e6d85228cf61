"""The text encoder gives what CLIP Text Encode gives, with literal words and one length."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import comfy.sd
import comfy.text_encoders.flux
import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.text_encoder import ComfyTextEncoder
from eraseanything_pack.erase_engine.concepts.planner import MOST_COMPARED, plan_concept
from eraseanything_pack.erase_engine.concepts.request import ConceptRequest
from eraseanything_pack.erase_engine.concepts.text_fields import plain_prompt

SMALL = {"num_hidden_layers": 2, "num_layers": 2, "hidden_size": 64, "intermediate_size": 64}
CLIP_L = {
    **SMALL,
    "num_attention_heads": 2,
    "hidden_act": "quick_gelu",
    "max_position_embeddings": 77,
    "eos_token_id": 49407,
    "projection_dim": 64,
    "vocab_size": 49408,
}
T5 = {"d_model": 64, "d_ff": 64, "d_kv": 32, "num_heads": 2, "num_layers": 2, "vocab_size": 32128}
WORD_START = 3  # the token of a word's beginning alone


@pytest.fixture(scope="module")
def clip() -> Any:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    target = SimpleNamespace(
        params={},
        clip=comfy.text_encoders.flux.flux_clip(),
        tokenizer=comfy.text_encoders.flux.FluxTokenizer,
    )
    options = {"clip_l_model_config": CLIP_L, "t5xxl_model_config": T5, "dtype": torch.float32}
    clip = comfy.sd.CLIP(target, model_options=options)
    generator = torch.Generator().manual_seed(0)
    for weight in clip.cond_stage_model.parameters():
        values = torch.empty(weight.shape).normal_(std=0.1, generator=generator)
        weight.data.copy_(values)
    return clip


@pytest.fixture
def encoder(clip: Any) -> ComfyTextEncoder:
    return ComfyTextEncoder(clip)


def test_equals_clip_text_encode(clip: Any, encoder: ComfyTextEncoder) -> None:
    expected, pooled = clip.encode_from_tokens(clip.tokenize("a red cat"), return_pooled=True)
    found = encoder.encode(["a red cat"])
    assert torch.equal(found.text, expected) and torch.equal(found.pooled, pooled)


def test_ids_are_the_texts_own(encoder: ComfyTextEncoder) -> None:
    assert encoder.token_ids("") == []
    cat = encoder.token_ids("cat")
    ids = encoder.token_ids("a red cat on a mat")
    assert len(ids) >= 6 and ids[-len(encoder.token_ids("mat")) :] == encoder.token_ids("mat")
    assert any(ids[i : i + len(cat)] == cat for i in range(len(ids)))
    assert 1 not in ids and 0 not in ids


def test_weights_are_plain_words(encoder: ComfyTextEncoder) -> None:
    literal = encoder.token_ids("a (cat:1.2)")
    assert len(literal) > len(encoder.token_ids("a cat"))
    text = encoder.encode(["a (cat:1.2)", "a cat"]).text
    assert not torch.equal(text[0], text[1])


@pytest.mark.parametrize(
    ("typed", "plain"),
    [
        ("a (red cat:1.3) asleep", "a red cat asleep"),
        ("((cat)), (a dog:.5)", "cat, a dog"),
        (r"a \(real\) cat", "a (real) cat"),
        ("a [cat] in {snow}", "a [cat] in {snow}"),
        ("a cat :) and (one", "a cat :) and (one"),
        ("(a cat: asleep)", "a cat: asleep"),
        ("(a (fat:1.2) cat:1.1)", "a fat cat"),
    ],
)
def test_prompts_are_read_without_weights_as_the_host_reads_them(
    clip: Any, encoder: ComfyTextEncoder, typed: str, plain: str
) -> None:
    """But for the bare word-start mark, which the host adds where a bracket stood.

    Square and curly brackets are words to it, and so they stay.
    """
    assert plain_prompt(typed) == plain
    (weighted,) = clip.tokenize(typed)["t5xxl"]
    read = [int(token) for token, _ in weighted]
    expected = [token for token in encoder.token_ids(plain) if token != WORD_START]
    assert [token for token in read[: read.index(1)] if token != WORD_START] == expected


def test_a_batch_has_one_length(encoder: ComfyTextEncoder) -> None:
    long = " ".join(["cat and dog"] * 120)
    cond = encoder.encode(["cat", long])
    assert cond.text.shape[:2] == (2, len(encoder.token_ids(long)) + 1)
    assert encoder.encode(["cat"]).text.shape[1] == 256


def test_features_are_ordinary_tensors(encoder: ComfyTextEncoder) -> None:
    with torch.inference_mode(), torch.inference_mode(False):
        cond = encoder.encode(["cat"])
    assert not cond.text.is_inference() and not cond.text.requires_grad


class Runs:
    """How often each of the two models has run."""

    def __init__(self, clip: Any) -> None:
        stage = clip.cond_stage_model
        self.pooling = self.tokens = 0
        stage.clip_l.transformer.register_forward_hook(self._pooling)
        stage.t5xxl.transformer.register_forward_hook(self._tokens)

    def _pooling(self, *_: Any) -> None:
        self.pooling += 1

    def _tokens(self, *_: Any) -> None:
        self.tokens += 1


@pytest.mark.parametrize("layer", [None, -1, -2])
def test_vectors_are_the_pooled_ones_and_the_t5_is_not_run(clip: Any, layer: int | None) -> None:
    clip = clip.clone()
    clip.clip_layer(layer)
    encoder, texts = ComfyTextEncoder(clip), ["cat", "a red (cat:1.2)", "", "x" * 600, "cat"]
    clip.cond_stage_model.clip_l.set_clip_options({"layer": -2})  # somebody else's, left over
    expected = encoder.encode(texts).pooled
    clip.cond_stage_model.clip_l.set_clip_options({"layer": -2})
    runs, told = Runs(clip), []
    found = encoder.vectors(texts, on_text=lambda: told.append(runs.pooling))
    assert torch.equal(found, expected) and found.dtype == torch.float32
    assert not found.is_inference() and not found.requires_grad
    assert (runs.pooling, runs.tokens, told) == (5, 0, [1, 2, 3, 4, 5])


def test_planning_runs_no_t5(clip: Any, encoder: ComfyTextEncoder) -> None:
    runs = Runs(clip)
    plan = plan_concept(ConceptRequest(concept="cat", pairs=3), encoder)
    assert len(plan.irrelevant) == 3
    assert runs.pooling == MOST_COMPARED and runs.tokens == 0


def test_features_are_kept_in_the_numbers_asked_for(clip: Any, encoder: ComfyTextEncoder) -> None:
    exact = encoder.encode(["cat", "a cat", "cat"])
    runs = Runs(clip)
    kept = encoder.encode(["cat", "a cat", "cat"], dtype=torch.bfloat16)
    assert runs.tokens == 2 and kept.prompts[0] is kept.prompts[2]
    assert torch.equal(kept.text, exact.text.bfloat16())
    assert torch.equal(kept.pooled, exact.pooled.bfloat16())
    held = {prompt.text.untyped_storage().data_ptr(): prompt.text for prompt in kept.prompts}
    (buffer,) = (text.untyped_storage().nbytes() for text in held.values())
    assert buffer == 2 * kept.prompts[0].text.nbytes  # one for each distinct prompt, no more


def test_encoding_stops_where_it_is_cancelled(clip: Any, encoder: ComfyTextEncoder) -> None:
    def cancel() -> None:
        if runs.tokens == 2:
            raise KeyboardInterrupt

    runs = Runs(clip)
    with pytest.raises(KeyboardInterrupt):
        encoder.encode(["cat", "dog", "bird", "fish"], on_prompt=cancel)
    assert runs.tokens == 2


def test_other_encoders_are_named() -> None:
    other = SimpleNamespace(tokenize=lambda text: {"g": [], "l": []})
    expected = (
        r"Got text encoders \['g', 'l'\], expected .*: Flux \(DualCLIPLoader, type flux\), SD3 "
    )
    with pytest.raises(ValueError, match=expected):
        ComfyTextEncoder(other)
