"""Families whose text is a language model's, by the command: features, places, a whole training."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import comfy
import diffusers
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from eraseanything_pack.erase_engine.backends.comfy.model import model_description
from eraseanything_pack.erase_engine.backends.comfy.text_encoder import ComfyTextEncoder
from eraseanything_pack.erase_engine.backends.diffusers.files import ModelFiles
from eraseanything_pack.erase_engine.backends.diffusers.text_encoder import DiffusersTextEncoder
from eraseanything_pack.erase_engine.cli.train import main
from eraseanything_pack.erase_engine.lora.file import load_lora, prefixed
from eraseanything_pack.nodes.host.patch_lora import apply_lora
from families.encoders import CLIPS, DEV, LANGUAGE_MODEL, T5, WIDTHS, family_of, tekken
from families.twins import TWINS
from tiny_diffusers import SMALL
from transformers import (
    AutoTokenizer,
    Mistral3Config,
    Mistral3ForConditionalGeneration,
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)
from transformers.integrations.mistral import MistralConverter

CPU = torch.device("cpu")
HOST = Path(comfy.__path__[0]) / "text_encoders"
PROMPTS = ["a red star", "", "a (star:1.2), photographed\nat night"]
# What the published tokenizers write, of the messages that are needed here.
CHAT = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n"
    "{% endfor %}<|im_start|>assistant\n"
    "{% if enable_thinking is false %}<think>\n\n</think>\n\n{% endif %}"
)
INSTRUCTIONS = (
    "<s>{% for message in messages %}{% set text = message.content[0].text %}"
    "{% if message.role == 'system' %}[SYSTEM_PROMPT]{{ text }}[/SYSTEM_PROMPT]"
    "{% else %}[INST]{{ text }}[/INST]{% endif %}{% endfor %}"
)
SIZES = {**LANGUAGE_MODEL, "vocab_size": 151_936, "head_dim": 32}
VISION = {"depth": 1, "hidden_size": 16, "num_heads": 2, "out_hidden_size": 64}
ROPE = {"rope_type": "default", "mrope_section": [4, 6, 6], "rope_theta": 1e6}
# Twin, pipeline, and the language model that lies in its folder.
FAMILIES = {
    "Qwen-Image": ("qwen-image", "QwenImagePipeline", "qwen2_5_vl"),
    "Z-Image": ("z-image", "ZImagePipeline", "qwen3"),
    "FLUX.2": ("flux2-klein", "Flux2KleinPipeline", "qwen3_causal"),
    DEV: ("flux2-dev", "Flux2Pipeline", "mistral3"),
    "Chroma": ("chroma", "", "t5"),
}
CHATS = [name for name in FAMILIES if name != "Chroma"]
of_each = pytest.mark.parametrize("name", list(FAMILIES))
of_chats = pytest.mark.parametrize("name", CHATS)
T5_SIZES = {**T5, "vocab_size": 32128, "feed_forward_proj": "gated-gelu"}


def language_model(kind: str) -> Any:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        if kind == "t5":
            return T5EncoderModel(T5Config(**T5_SIZES))
        if kind == "qwen3":
            return Qwen3Model(Qwen3Config(**SIZES))
        if kind == "mistral3":
            text = {**SIZES, "num_hidden_layers": 31, "model_type": "mistral"}
            vision = {**LANGUAGE_MODEL, "num_hidden_layers": 1, "model_type": "pixtral"}
            config = Mistral3Config(text_config=text, vision_config=vision)
            return Mistral3ForConditionalGeneration(config)
        if kind == "qwen3_causal":
            return Qwen3ForCausalLM(Qwen3Config(**{**SIZES, "num_hidden_layers": 28}))
        text = {**SIZES, "rope_scaling": ROPE}
        config = Qwen2_5_VLConfig(text_config=text, vision_config=VISION)
        return Qwen2_5_VLForConditionalGeneration(config)


def model_of(name: str) -> Any:
    """A MODEL as wide as the family's tiny text."""
    return TWINS[FAMILIES[name][0]].net.build(inference=False, text=WIDTHS[family_of(name)])


def tokenizer_of(kind: str) -> Any:
    if kind == "t5":
        return T5TokenizerFast.from_pretrained(HOST / "t5_tokenizer", local_files_only=True)
    if kind == "mistral3":
        with tempfile.NamedTemporaryFile() as file:
            Path(file.name).write_bytes(tekken())
            words = MistralConverter(file.name).converted()
        return PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="<pad>", chat_template=INSTRUCTIONS
        )
    tokenizer = AutoTokenizer.from_pretrained(HOST / "qwen25_tokenizer", local_files_only=True)
    tokenizer.chat_template = CHAT
    return tokenizer


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A diffusers folder of each family, a few layers deep."""
    made = {}
    for name, (twin, _, kind) in FAMILIES.items():
        folder = made[name] = tmp_path_factory.mktemp("model")
        tokenizer_of(kind).save_pretrained(folder / "tokenizer")
        language_model(kind).save_pretrained(folder / "text_encoder")
        TWINS[twin].convert(model_of(name)).save_pretrained(folder / "transformer")
        scheduler = FlowMatchEulerDiscreteScheduler(**TWINS[twin].scheduler)
        scheduler.save_pretrained(folder / "scheduler")
    return made


@of_chats
@torch.no_grad()
def test_text_is_that_of_its_pipeline(name: str, folders: dict[str, Path]) -> None:
    files = ModelFiles(folders[name])
    assert files.family.name == family_of(name)
    encoder: Any = files.text_encoder(CPU, torch.float32)
    padded_in_front = name == DEV
    encoder._tokenizer.padding_side = "left" if padded_in_front else "right"
    kind = getattr(diffusers, FAMILIES[name][1])
    scheduler = FlowMatchEulerDiscreteScheduler()
    parts = {"text_encoder": encoder._model, "tokenizer": encoder._tokenizer}
    absent = {"transformer": None, "vae": None}
    pipeline = kind(scheduler=scheduler, **absent, **parts)
    guided = {"do_classifier_free_guidance": False} if name == "Z-Image" else {}
    for prompt in PROMPTS:
        text, *_ = pipeline.encode_prompt([prompt], device=CPU, **guided)
        (found,) = encoder.encode([prompt]).prompts
        # The pipeline has there what its model makes of padding, ComfyUI and the command zeros.
        expected = text[0][-len(found.text) :] if padded_in_front else text[0]
        torch.testing.assert_close(found.text, expected, rtol=1e-4, atol=1e-5)
        assert found.pooled is None


@pytest.mark.parametrize("name", [name for name in CHATS if name in CLIPS])
def test_words_stand_where_comfyui_has_them(name: str, folders: dict[str, Path]) -> None:
    ours = ModelFiles(folders[name]).text_encoder(CPU, torch.float32)
    with torch.inference_mode():
        theirs = ComfyTextEncoder(CLIPS[name]())
        for prompt in PROMPTS:
            length = len(ours.encode([prompt]).prompts[0].text)
            assert length == len(theirs.encode([prompt]).prompts[0].text)
            assert ours.parts(prompt, length) == theirs.parts(prompt, length)
            assert ours.positions(prompt) == theirs.positions(prompt)


@of_each
def test_the_command_erases(name: str, folders: dict[str, Path], tmp_path: Path) -> None:
    """Its LoRA fits the model in ComfyUI."""
    config, out = tmp_path / "small.yaml", tmp_path / "star.safetensors"
    config.write_text(SMALL.replace("text_pooled", "text_in_pooled"))
    given = ("--model", str(folders[name]), "--concept", "star", "--config", str(config))
    main([*given, "--out", str(out)])
    state, record = load_lora(out)
    model = model_of(name)
    assert record["base_model"] == model_description(model)
    _, layers = apply_lora(model, prefixed(state), 1.0, name="some", metadata=record)
    assert layers == len(state) // 2
    assert any(value.any() for key, value in state.items() if "lora_B" in key)


def test_other_language_models_are_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    for each in folders["FLUX.2"].iterdir():
        (tmp_path / each.name).symlink_to(each)
    (tmp_path / "text_encoder").unlink()
    (tmp_path / "text_encoder").mkdir()
    (tmp_path / "text_encoder" / "config.json").write_text(json.dumps({"model_type": "gemma2"}))
    with pytest.raises(
        ValueError, match=r"kind gemma2 .* expected qwen3 or mistral3, .* in ComfyUI"
    ):
        ModelFiles(tmp_path)


def test_pictures_to_keep_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ValueError, match=r"keep for Qwen-Image, .* Leave --keep-images out"):
        ModelFiles(folders["Qwen-Image"]).check_vae()


# --- Chroma: a text encoder of the old kind, but nobody pads -------------------------------------


@torch.no_grad()
def test_chromas_text_is_not_padded() -> None:
    """Each text is as long as in ComfyUI, its features are T5's, its words stand where they do."""
    tokenizer, t5 = tokenizer_of("t5"), language_model("t5").eval()
    ours = DiffusersTextEncoder((tokenizer, t5), words=((0,),), pooled=(), shortest=1)
    with torch.inference_mode():
        theirs = ComfyTextEncoder(CLIPS["Chroma"]())
        expected = theirs.encode(PROMPTS).prompts
        for prompt, found, host in zip(
            PROMPTS, ours.encode(PROMPTS).prompts, expected, strict=True
        ):
            alone = t5(**tokenizer([prompt], return_tensors="pt")).last_hidden_state[0]
            torch.testing.assert_close(found.text, alone, rtol=1e-4, atol=1e-5)
            assert found.text.shape == host.text.shape and found.pooled is None
            assert ours.parts(prompt, len(alone)) == theirs.parts(prompt, len(alone))
            assert ours.positions(prompt) == theirs.positions(prompt)
    assert ours.vectors(PROMPTS).shape == (3, T5["d_model"])
