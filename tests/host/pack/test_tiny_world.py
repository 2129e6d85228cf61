"""The tiny Flux in a real ComfyUI: stock nodes take it, it draws what is asked, and it forgets."""

from __future__ import annotations

from typing import Any

import comfy.sample
import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import ComfyFlowModel
from eraseanything_pack.erase_engine.backends.comfy.text_encoder import ComfyTextEncoder
from eraseanything_pack.erase_engine.concepts.planner import plan_concept
from eraseanything_pack.erase_engine.concepts.request import ConceptRequest
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from eraseanything_pack.erase_engine.training.encoded_prompts import encode_prompts, needed_by
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.tinyworld.draw import draw_pictures
from eraseanything_pack.tinyworld.evaluate import (
    any_prompts,
    found,
    obeyed,
    prompts_with,
    prompts_without,
)
from eraseanything_pack.tinyworld.judge import Judge
from eraseanything_pack.tinyworld.load import load_tiny


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, Any, Any]:
    return load_tiny("Flux")


def sample(model: Any, clip: Any, text: str, seed: int) -> torch.Tensor:
    """One latent by the host's own sampler: euler, 20 steps."""
    text_and_pooled = clip.encode_from_tokens(clip.tokenize(text), return_pooled=True)
    cond = [[text_and_pooled[0], {"pooled_output": text_and_pooled[1]}]]
    empty = torch.zeros(1, 16, 16, 16)
    noise = comfy.sample.prepare_noise(empty, seed)
    return comfy.sample.sample(
        model, noise, 20, 1.0, "euler", "simple", cond, cond, empty, disable_pbar=True, seed=seed
    )


def test_it_draws_what_is_asked_in_nearly_every_picture(tiny: tuple[Any, Any, Any]) -> None:
    model, clip, vae = tiny
    prompts = any_prompts(60, seed=3)
    with ComfyFlowModel(model, checkpointing=False).session() as backend:
        encoder = ComfyTextEncoder(clip)
        pictures = draw_pictures(backend, encoder, vae, [p.text for p in prompts], seed=7)
    assert obeyed(prompts, Judge.load().look(pictures)).mean() >= 0.95


def test_the_hosts_sampler_and_vae_take_it(tiny: tuple[Any, Any, Any]) -> None:
    model, clip, vae = tiny
    prompts = prompts_with("star", 6)
    latents = [sample(model, clip, one.text, seed) for seed, one in enumerate(prompts)]
    images = torch.cat([vae.decode(latent) for latent in latents])  # (N, 128, 128, 3)
    assert images.shape == (6, 128, 128, 3)
    verdict = Judge.load().look(images.permute(0, 3, 1, 2))
    assert found("star", prompts, verdict).sum() >= 5
    again = vae.decode(vae.encode(images))
    assert (again - images).abs().mean() < 0.03
    tiled = vae.decode_tiled(latents[0], tile_x=16, tile_y=16, overlap=4)
    assert (tiled - images[:1]).abs().mean() < 0.1


def test_it_forgets_star_and_keeps_the_rest(tiny: tuple[Any, Any, Any]) -> None:
    model, clip, vae = tiny
    encoder, judge = ComfyTextEncoder(clip), Judge.load()
    request = ConceptRequest(concept="star")
    plan = plan_concept(request, encoder, vocabulary=clip.tokenizer.eraseanything_vocabulary)
    config = EraseConfig.from_recipe("fast", width=128, height=128, steps=50)
    encoded = encode_prompts(plan, encoder, **needed_by(config))
    named, others = prompts_with("star", 24), prompts_without("star", 24)
    texts = [one.text for one in (*named, *others)]
    with ComfyFlowModel(model, checkpointing=False).session() as backend:
        generator = torch.Generator().manual_seed(0)
        erasure = train_erasure(backend, encoded, config, generator=generator)
        names = [key.removesuffix(".alpha") for key in erasure.state if key.endswith(".alpha")]
        slices = backend.linear_slices(names)
        lora = LoraSet.from_state(slices, erasure.state)
        before = judge.look(draw_pictures(backend, encoder, vae, texts, seed=1))
        with lora.attach(slices):
            after = judge.look(draw_pictures(backend, encoder, vae, texts, seed=1))
    everything = [*named, *others]
    star = [found("star", everything, verdict)[:24].float().mean() for verdict in (before, after)]
    kept = [obeyed(everything, verdict)[24:].mean() for verdict in (before, after)]
    assert star[0] >= 0.9 and star[1] <= 0.25
    assert kept[1] >= 0.95 * kept[0]
