"""Miniatures of shapes in a real ComfyUI: stock nodes take them, they draw, and forget."""

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
from eraseanything_pack.erase_engine.sampling import sampled
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
from eraseanything_pack.tinyworld.load import MINIATURES, Miniature, load_tiny

Tiny = tuple[Any, Any, Any, Miniature]  # MODEL, CLIP, VAE, and how it is sampled


FIRST, *OTHERS = (name for name, one in MINIATURES.items() if one.world == "tinyworld")
ALL = [FIRST, *(pytest.param(name, marks=pytest.mark.thorough) for name in OTHERS)]


@pytest.fixture(scope="module", params=ALL)
def tiny(request: pytest.FixtureRequest) -> Tiny:
    return *load_tiny(request.param), MINIATURES[request.param]


def sample(model: Any, clip: Any, text: str, seed: int, cfg: float) -> torch.Tensor:
    """One latent by the host's own sampler: euler, 20 steps."""
    cond, nothing = (
        [[found[0], {"pooled_output": found[1]}]]
        for said in (text, "")
        for found in [clip.encode_from_tokens(clip.tokenize(said), return_pooled=True)]
    )
    empty = torch.zeros(1, 16, 16, 16)
    noise = comfy.sample.prepare_noise(empty, seed)
    return comfy.sample.sample(
        model,
        noise,
        20,
        cfg,
        "euler",
        "simple",
        cond,
        nothing,
        empty,
        disable_pbar=True,
        seed=seed,
    )


def test_it_draws_what_is_asked_in_nearly_every_picture(tiny: Tiny) -> None:
    model, clip, vae, made = tiny
    prompts = any_prompts(60, seed=3)
    with ComfyFlowModel(model, guidance=made.guidance, checkpointing=False).session() as backend:
        encoder = ComfyTextEncoder(clip)
        pictures = draw_pictures(backend, encoder, vae, [p.text for p in prompts], seed=7)
    assert obeyed(prompts, Judge.load().look(pictures)).mean() >= 0.95


def test_the_hosts_sampler_and_vae_take_it(tiny: Tiny) -> None:
    model, clip, vae, made = tiny
    prompts = prompts_with("star", 6)
    latents = [sample(model, clip, one.text, seed, made.cfg) for seed, one in enumerate(prompts)]
    images = torch.cat([vae.decode(latent) for latent in latents])  # (N, 128, 128, 3)
    assert images.shape == (6, 128, 128, 3)
    verdict = Judge.load().look(images.permute(0, 3, 1, 2))
    assert found("star", prompts, verdict).sum() >= 5
    again = vae.decode(vae.encode(images))
    assert (again - images).abs().mean() < 0.03
    tiled = vae.decode_tiled(latents[0], tile_x=16, tile_y=16, overlap=4)
    assert (tiled - images[:1]).abs().mean() < 0.1


def test_it_forgets_star_and_keeps_the_rest(tiny: Tiny) -> None:
    model, clip, vae, made = tiny
    encoder, judge = ComfyTextEncoder(clip), Judge.load()
    request = ConceptRequest(concept="star")
    plan = plan_concept(request, encoder, vocabulary=clip.tokenizer.eraseanything_vocabulary)
    config = EraseConfig.from_recipe("fast", width=128, height=128, steps=50)
    encoded = encode_prompts(plan, encoder, **needed_by(config))
    named, others = prompts_with("star", 24), prompts_without("star", 24)
    texts = [one.text for one in (*named, *others)]
    with ComfyFlowModel(model, guidance=made.guidance, checkpointing=False).session() as backend:
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


def test_a_picture_of_ours_is_the_hosts_sampler_and_guidance(tiny: Tiny) -> None:
    """The same noise, steps and scale of guidance: the same latent."""
    model, clip, _, made = tiny
    encoder = ComfyTextEncoder(clip)
    cond = encoder.encode(["a red star", ""])
    noise = comfy.sample.prepare_noise(torch.zeros(1, 16, 16, 16), 5)
    with ComfyFlowModel(model, guidance=made.guidance).session() as backend:
        ours = sampled(backend, cond.take([0]), noise, steps=20, unconditional=cond.prompts[1])
    theirs = model.model.process_latent_in(sample(model, clip, "a red star", 5, made.cfg))
    torch.testing.assert_close(ours, theirs.float(), rtol=1e-2, atol=1e-2)
