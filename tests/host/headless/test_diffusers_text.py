"""Text as FluxPipeline and as ComfyUI encode it, from one set of weights."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import comfy.sd
import comfy.text_encoders.flux
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from eraseanything_pack.erase_engine.backends.comfy.text_encoder import ComfyTextEncoder
from eraseanything_pack.erase_engine.backends.diffusers.text_encoder import DiffusersTextEncoder
from eraseanything_pack.erase_engine.families.flux import FLUX
from tiny_diffusers import CLIP, T5, convert, save_text_encoders
from tiny_flux import build
from transformers import CLIPTextModel, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

PROMPTS = ["a red cat", "", "a (cat:1.2), photographed"]
LONG = " ".join(["cat and dog"] * 200)

FOLDERS = [name for name, _ in FLUX.diffusers.files.text]


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Tokenizers and models of a folder, by FluxPipeline's names."""
    folder = tmp_path_factory.mktemp("texts")
    save_text_encoders(folder)
    kinds = (CLIPTokenizer, CLIPTextModel, T5TokenizerFast, T5EncoderModel)
    return {
        name: kind.from_pretrained(folder / name, local_files_only=True)
        for name, kind in zip(FOLDERS, kinds, strict=True)
    }


@pytest.fixture
def encoder(parts: dict[str, Any]) -> DiffusersTextEncoder:
    clip_tokenizer, clip, t5_tokenizer, t5 = parts.values()
    return DiffusersTextEncoder((clip_tokenizer, clip), (t5_tokenizer, t5))


@torch.no_grad()
def test_equals_fluxpipeline(parts: dict[str, Any], encoder: DiffusersTextEncoder) -> None:
    pipeline = FluxPipeline(
        FlowMatchEulerDiscreteScheduler(), vae=None, transformer=convert(build()), **parts
    )
    text, pooled, _ = pipeline.encode_prompt(PROMPTS, None, max_sequence_length=256)
    found = encoder.encode(PROMPTS)
    torch.testing.assert_close(found.text, text)
    torch.testing.assert_close(found.pooled, pooled)


def test_equals_comfyui(parts: dict[str, Any], encoder: DiffusersTextEncoder) -> None:
    theirs = ComfyTextEncoder(comfy_clip(parts))
    expected, found = theirs.encode(PROMPTS), encoder.encode(PROMPTS)
    torch.testing.assert_close(found.text, expected.text, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.pooled, expected.pooled, rtol=1e-5, atol=1e-5)
    for prompt in (*PROMPTS, LONG):
        assert encoder.token_ids(prompt) == theirs.token_ids(prompt)


def comfy_clip(parts: dict[str, Any]) -> Any:
    """ComfyUI's CLIP for Flux with the same weights."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    target = SimpleNamespace(
        params={},
        clip=comfy.text_encoders.flux.flux_clip(),
        tokenizer=comfy.text_encoders.flux.FluxTokenizer,
    )
    sizes = {"hidden_act": "quick_gelu", "max_position_embeddings": 77, "vocab_size": 49408}
    options = {
        "clip_l_model_config": {**CLIP, **sizes},
        "t5xxl_model_config": T5,
        "dtype": torch.float32,
    }
    clip = comfy.sd.CLIP(target, model_options=options)
    for name, part in (("clip_l", "text_encoder"), ("t5xxl", "text_encoder_2")):
        model = getattr(clip.cond_stage_model, name).transformer
        missing, _ = model.load_state_dict(_published(parts[part]), strict=False)
        assert missing in ([], ["text_projection.weight"])  # which Flux does not use
    return clip


def _published(model: Any) -> dict[str, torch.Tensor]:
    """A text encoder's weights by their names in files, which newer CLIP classes shorten."""
    state = model.state_dict()
    clip = "embeddings.token_embedding.weight" in state
    return {f"text_model.{key}" if clip else key: value for key, value in state.items()}


def test_long_prompts_are_cut_off_and_one_length_is_kept(encoder: DiffusersTextEncoder) -> None:
    assert len(encoder.token_ids(LONG)) > encoder.max_tokens == 511
    cond = encoder.encode(["cat", LONG])
    assert cond.text.shape[:2] == (2, 512)
    exact = encoder.encode(["cat " * 300])
    assert exact.text.shape[1] == len(encoder.token_ids("cat " * 300)) + 1


def test_many_prompts_are_encoded_in_parts(encoder: DiffusersTextEncoder, parts: Any) -> None:
    sizes: list[int] = []
    handle = parts["text_encoder_2"].register_forward_pre_hook(
        lambda module, args: sizes.append(len(args[0]))
    )
    many = encoder.encode([f"a cat number {index}" for index in range(20)])
    handle.remove()
    assert sizes == [16, 4] and len(many) == 20
    torch.testing.assert_close(many.text[19:], encoder.encode(["a cat number 19"]).text)


def test_vectors_are_the_pooled_ones_and_the_t5_is_not_run(
    encoder: DiffusersTextEncoder, parts: Any
) -> None:
    texts = [f"a cat number {index}" for index in range(20)]
    expected, told, runs = encoder.encode(texts).pooled, [], []
    handle = parts["text_encoder_2"].register_forward_pre_hook(lambda *_: runs.append(1))
    found = encoder.vectors(texts, on_text=lambda: told.append(1))
    handle.remove()
    assert torch.equal(found, expected) and len(told) == 20 and not runs


def test_equal_texts_are_encoded_once_in_the_numbers_asked_for(
    encoder: DiffusersTextEncoder,
) -> None:
    told: list[int] = []
    exact = encoder.encode(PROMPTS)
    kept = encoder.encode(
        [*PROMPTS, PROMPTS[0]], dtype=torch.bfloat16, on_prompt=lambda: told.append(1)
    )
    assert len(told) == len(PROMPTS) and kept.prompts[-1] is kept.prompts[0]
    assert torch.equal(kept.text[:-1], exact.text.bfloat16())
