"""From one seed both programs train one LoRA, and its file gives one picture in both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import comfy.latent_formats
import comfy.sd
import comfy.utils
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxPipeline
from einops import rearrange
from eraseanything_pack.erase_engine.config import EraseConfig, LoraConfig, LossWeights
from eraseanything_pack.erase_engine.interfaces import Conditioning, TokenSet
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from eraseanything_pack.erase_engine.lora.file import save_lora
from eraseanything_pack.erase_engine.training import loop as train
from eraseanything_pack.erase_engine.training.encoded_prompts import Contrast, EncodedPrompts
from eraseanything_pack.nodes.host.session import training_session
from snapshot import sample
from tiny_diffusers import backend_of, convert
from tiny_flux import TEXT_LENGTH, build, inputs

State = dict[str, torch.Tensor]
MODEL_SEED = 0
CONFIG = EraseConfig(
    steps=4,
    batch=2,
    keep_per_step=2,
    trajectories=2,
    trajectory_steps=3,
    weights=LossWeights(esd=1.0, attention=0.1, keep=1.0, rsc=0.1),
    lora=LoraConfig(rank=3, alpha=6.0, targets="text_pooled"),
    width=64,
    height=64,
)


def encoded() -> EncodedPrompts:
    """Two pairs, two keep prompts, two irrelevant concepts, all random."""
    generator = torch.Generator().manual_seed(5)

    def some(rows: int) -> Conditioning:
        text = torch.randn(rows, TEXT_LENGTH, 20, generator=generator)
        return Conditioning.stacked(text, torch.randn(rows, 12, generator=generator))

    tokens = torch.tensor([[1, 2], [3, -1]])
    contrast = Contrast(some(2), tokens, some(4), tokens.repeat_interleave(2, 0))
    both = TokenSet(tokens, torch.tensor([[0, 3], [0, 1]]))
    return EncodedPrompts(some(2), some(2), both, some(2), some(1).prompts[0], contrast)


def _train(backend: Any) -> State:
    generator = torch.Generator().manual_seed(CONFIG.seed)
    return train.train_erasure(backend, encoded(), CONFIG, generator=generator).state


def in_comfyui() -> State:
    with training_session(build(), guidance=CONFIG.guidance) as backend:
        return _train(backend)


def in_diffusers() -> State:
    with backend_of(build(), guidance=CONFIG.guidance).session() as backend:
        return _train(backend)


def by_hooks() -> State:
    """As in diffusers, with the engine's hooks in the place of peft's layers."""
    backend = backend_of(build(), guidance=CONFIG.guidance)
    with backend.session(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(backend, "adapters", LoraSet)
        return _train(backend)


def test_diffusers_adapters_are_peft_s() -> None:
    backend = backend_of(build())
    slices = backend.linear_slices(["transformer_blocks.0.attn.add_q_proj"])
    lora = backend.adapters(slices, rank=2, generator=torch.Generator())
    with backend.session(), lora.attach(slices):
        assert "eraseanything" in backend.net.peft_config


@pytest.fixture(scope="module")
def expected() -> State:
    return in_comfyui()


@pytest.mark.parametrize("way", [in_diffusers, by_hooks])
def test_one_seed_gives_one_lora(way: Callable[[], State], expected: State) -> None:
    found = way()
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=1e-5, atol=1e-5)
    ups = [value for key, value in expected.items() if "lora_B" in key]
    assert min(float(up.abs().max()) for up in ups) > 1e-3  # more than what is allowed above


@pytest.mark.parametrize("way", [in_comfyui, in_diffusers])
def test_a_file_gives_one_picture_in_both(way: Callable[[], State], tmp_path: Path) -> None:
    state = {key: _stronger(key, value) for key, value in way().items()}
    path = save_lora(tmp_path / "erased.safetensors", state, {"concept": "cat"})
    base = picture_in_comfyui(None)
    ours, theirs = picture_in_comfyui(path), picture_in_diffusers(path)
    assert (ours - base).abs().max() > 1e-2
    torch.testing.assert_close(theirs, ours, rtol=1e-5, atol=2e-5)
    torch.testing.assert_close(picture_in_diffusers(None), base, rtol=1e-5, atol=2e-5)


def _stronger(key: str, value: torch.Tensor) -> torch.Tensor:
    """Four steps change little of a picture: here a hundred times as much."""
    return value * 100 if "lora_B" in key else value


def picture_in_comfyui(path: Path | None) -> torch.Tensor:
    """The latent of a KSampler, with the file on by the host's own loader."""
    model = build()
    if path is not None:
        file = comfy.utils.load_torch_file(str(path), safe_load=True)
        model, _ = comfy.sd.load_lora_for_models(model, None, file, 1.0, 0.0)
    return comfy.latent_formats.Flux().process_in(sample(model))


@torch.no_grad()
def picture_in_diffusers(path: Path | None) -> torch.Tensor:
    """The same latent by FluxPipeline, with the file on by its own `load_lora_weights`."""
    parts = dict.fromkeys(("vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"))
    shift = {"use_dynamic_shifting": True, "base_shift": 1.15, "max_shift": 1.15}  # as ComfyUI's
    times = FlowMatchEulerDiscreteScheduler(**shift)
    pipeline = FluxPipeline(times, transformer=convert(build()), **parts)
    pipeline.set_progress_bar_config(disable=True)
    if path is not None:
        pipeline.load_lora_weights(path)
    noise, _, cond = inputs(seed=7)
    (packed,) = pipeline(
        prompt_embeds=cond.text[:1],
        pooled_prompt_embeds=cond.pooled[:1],
        latents=rearrange(noise[:1], "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2),
        height=32,
        width=48,
        num_inference_steps=2,
        guidance_scale=3.0,
        output_type="latent",
        return_dict=False,
    )
    return rearrange(packed, "b (h w) (c p q) -> b c (h p) (w q)", h=2, p=2, q=2)
