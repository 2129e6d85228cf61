"""Stable Diffusion 3 and 3.5 in diffusers: velocity, attention, gradient, LoRA as in ComfyUI."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import comfy
import comfy.sd
import comfy.text_encoders.sd3_clip as sd3_clip
import comfy.utils
import pytest
import tiny_diffusers
import torch
from diffusers import (
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
)
from eraseanything_pack.erase_engine.backends.comfy.model import model_description
from eraseanything_pack.erase_engine.backends.comfy.text_encoder import ComfyTextEncoder
from eraseanything_pack.erase_engine.backends.diffusers.files import ModelFiles
from eraseanything_pack.erase_engine.backends.diffusers.model import DiffusersFlowModel
from eraseanything_pack.erase_engine.backends.diffusers.text_encoder import DiffusersTextEncoder
from eraseanything_pack.erase_engine.cli.train import main
from eraseanything_pack.erase_engine.families.sd3 import SD3
from eraseanything_pack.erase_engine.lora.file import load_lora, prefixed, save_lora
from eraseanything_pack.nodes.host.patch_lora import apply_lora
from families.nets import NETS
from families.twins import TWINS
from random_nets import trained_lora
from safetensors.torch import save_file
from tiny_diffusers import SMALL
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)

WIDTH = 4096  # the host fills CLIP's features up to it
CLIP = {"intermediate_size": 16, "num_attention_heads": 2, "num_hidden_layers": 3}
CLIPS = [{**CLIP, "hidden_size": 8}, {**CLIP, "hidden_size": 12}]
T5 = {**tiny_diffusers.T5, "d_model": WIDTH}
PROMPTS = ["a red star", "", "a (star:1.2), photographed"]


def convert(model: Any) -> SD3Transformer2DModel:
    return TWINS["sd3.5-medium"].convert(model)


def test_its_pipeline_loads_the_file_at_our_strength(tmp_path: Path) -> None:
    """Without alphas: the velocity of the pipeline's own loader is that of the adapters."""
    net = NETS["sd3.5-medium"]
    model = net.build(inference=False)
    backend = TWINS["sd3.5-medium"].backend(model)
    lora = trained_lora(backend, "text_in_pooled")
    slices = backend.linear_slices(backend.target_names("text_in_pooled"))
    with backend.session(), torch.no_grad(), lora.attach(slices):
        expected = backend.velocity(*net.inputs())
    path = save_lora(tmp_path / "some.safetensors", lora.state_dict(), {"concept": "star"})
    absent = ("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    absent += ("text_encoder_3", "tokenizer_3")
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    pipeline = StableDiffusion3Pipeline(convert(model), scheduler, **dict.fromkeys(absent))
    pipeline.load_lora_weights(path)
    loaded = DiffusersFlowModel(pipeline.transformer, scheduler, guidance=3.0)
    with torch.no_grad():
        torch.testing.assert_close(loaded.velocity(*net.inputs()), expected, rtol=1e-4, atol=1e-5)


# --- text ----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What folders of Stable Diffusion 3 hold for text, of a few layers each."""
    folder, host = tmp_path_factory.mktemp("texts"), Path(comfy.__path__[0])
    with torch.random.fork_rng():
        torch.manual_seed(3)
        for ending, sizes in zip(("", "_2"), CLIPS, strict=True):
            tokenizer = CLIPTokenizer.from_pretrained(
                host / "sd1_tokenizer", model_max_length=77, local_files_only=True
            )
            if ending:
                tokenizer.pad_token = "!"  # as its files have it: id 0
            tokenizer.save_pretrained(folder / f"tokenizer{ending}")
            config = CLIPTextConfig(
                **sizes, projection_dim=sizes["hidden_size"], eos_token_id=49407
            )
            CLIPTextModelWithProjection(config).save_pretrained(folder / f"text_encoder{ending}")
        T5EncoderModel(T5Config(**T5)).save_pretrained(folder / "text_encoder_3")
    T5TokenizerFast.from_pretrained(
        host / "text_encoders" / "t5_tokenizer", local_files_only=True
    ).save_pretrained(folder / "tokenizer_3")
    return folder


def parts_of(folder: Path) -> dict[str, Any]:
    import transformers

    return {
        name: getattr(transformers, kind).from_pretrained(folder / name, local_files_only=True)
        for name, kind in SD3.diffusers.files.text
    }


def encoder_of(parts: dict[str, Any]) -> DiffusersTextEncoder:
    each, files = list(parts.values()), SD3.diffusers.files
    return DiffusersTextEncoder(
        *zip(each[::2], each[1::2], strict=True),
        words=files.words,
        pooled=files.pooled,
        shortest=files.shortest,
    )


@torch.no_grad()
def test_text_is_that_of_its_pipeline(texts: Path) -> None:
    parts = parts_of(texts)
    pipeline = StableDiffusion3Pipeline(
        convert(NETS["sd3.5-medium"].build()), FlowMatchEulerDiscreteScheduler(), vae=None, **parts
    )
    text, _, pooled, _ = pipeline.encode_prompt(
        PROMPTS, None, None, do_classifier_free_guidance=False, max_sequence_length=77
    )
    found = encoder_of(parts).encode(PROMPTS)
    torch.testing.assert_close(found.text, text, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found.pooled, pooled, rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_words_stand_where_comfyui_has_them(texts: Path) -> None:
    """In CLIP's part and in T5's, by the same tokens."""
    ours = encoder_of(parts_of(texts))
    target = SimpleNamespace(
        params={}, clip=sd3_clip.sd3_clip(dtype_t5=torch.float32), tokenizer=sd3_clip.SD3Tokenizer
    )
    sizes = {
        f"clip_{name}_model_config": {**each, "projection_dim": 8}
        for name, each in zip("lg", CLIPS, strict=True)
    }
    clip = comfy.sd.CLIP(
        target, model_options={**sizes, "t5xxl_model_config": T5, "dtype": torch.float32}
    )
    theirs = ComfyTextEncoder(clip)
    for prompt in PROMPTS:
        length = len(ours.encode([prompt]).prompts[0].text)
        assert length == len(theirs.encode([prompt]).prompts[0].text) == 154
        assert ours.parts(prompt, length) == theirs.parts(prompt, length)
        assert ours.positions(prompt) == theirs.positions(prompt)


@pytest.fixture(scope="module")
def model() -> Any:
    """A MODEL as wide as these texts."""
    pooled = sum(each["hidden_size"] for each in CLIPS)
    return NETS["sd3.5-medium"].build(inference=False, text=WIDTH, pooled=pooled)


@pytest.fixture(scope="module")
def folder(texts: Path, model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("model")
    convert(model).save_pretrained(made / "transformer")
    FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(made / "scheduler")
    for each in texts.iterdir():
        (made / each.name).symlink_to(each)
    return made


def test_a_published_file_is_the_folders_model(
    texts: Path, folder: Path, model: Any, tmp_path: Path
) -> None:
    single = tmp_path / "sd3.5_medium.safetensors"
    state = model.model.diffusion_model.state_dict()
    save_file({f"model.diffusion_model.{k}": v.contiguous() for k, v in state.items()}, single)
    files = ModelFiles(single, texts)
    assert files.family is SD3
    mine, theirs = (
        each.transformer(torch.device("cpu"), torch.float32) for each in (files, ModelFiles(folder))
    )
    assert files.scheduler(mine).config.shift == 3.0
    expected = theirs.state_dict()
    for name, weight in mine.state_dict().items():
        assert torch.equal(weight, expected[name]), name
    sizes = ("num_layers", "num_attention_heads", "dual_attention_layers", "qk_norm")
    for name in (*sizes, "joint_attention_dim", "pooled_projection_dim", "pos_embed_max_size"):
        first, second = mine.config[name], theirs.config[name]
        assert (list(first) if isinstance(first, tuple) else first) == second, name


def test_the_command_erases(folder: Path, model: Any, tmp_path: Path) -> None:
    """Its LoRA fits the model in ComfyUI."""
    config, out = tmp_path / "small.yaml", tmp_path / "star.safetensors"
    config.write_text(SMALL)
    main(["--model", str(folder), "--concept", "star", "--config", str(config), "--out", str(out)])
    state, record = load_lora(out)
    assert record["base_model"] == model_description(model)
    _, layers = apply_lora(model, prefixed(state), 1.0, name="some", metadata=record)
    assert layers == len(state) // 2 == 4 + 2 + 2  # a last block's queries and output lead nowhere
    assert any(value.any() for key, value in state.items() if "lora_B" in key)
