"""The gallery's miniature in a real ComfyUI: it draws what is asked, and forgets one thing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import ComfyFlowModel
from eraseanything_pack.erase_engine.backends.comfy.text_encoder import ComfyTextEncoder
from eraseanything_pack.erase_engine.concepts.planner import plan_concept
from eraseanything_pack.erase_engine.concepts.request import ConceptRequest, Kind
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from eraseanything_pack.erase_engine.training.encoded_prompts import encode_prompts, needed_by
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.gallery.evaluate import (
    any_prompts,
    found,
    look,
    obeyed,
    prompts_with,
    prompts_without,
    replaced,
)
from eraseanything_pack.tinyworld.draw import draw_pictures
from eraseanything_pack.tinyworld.load import MINIATURES, load_tiny

NAME = "Flux, gallery"
Loaded = tuple[ComfyFlowModel, ComfyTextEncoder, Any, Any]


@pytest.fixture(scope="module")
def gallery() -> Loaded:
    """Its model, encoder and VAE for the engine, and what its planner may say."""
    model, clip, vae = load_tiny(NAME)
    backend = ComfyFlowModel(model, guidance=MINIATURES[NAME].guidance, checkpointing=False)
    return backend, ComfyTextEncoder(clip), vae, clip.tokenizer.eraseanything_vocabulary


def test_it_draws_what_is_asked(gallery: Loaded) -> None:
    backend, encoder, vae, _ = gallery
    prompts = any_prompts(60, seed=3)
    with backend.session():
        pictures = draw_pictures(backend, encoder, vae, [p.text for p in prompts], seed=7, steps=12)
    assert obeyed(prompts, look(pictures)).mean() >= 0.93


@pytest.mark.parametrize(
    ("concept", "kind"),
    [
        ("cat", "object"),
        *(
            pytest.param(*one, marks=pytest.mark.thorough)
            for one in (("ink", "style"), ("Mira", "person"), ("python", "object"))
        ),
    ],
)
def test_it_forgets_one_thing_and_keeps_the_rest(gallery: Loaded, concept: str, kind: Kind) -> None:
    backend, encoder, vae, vocabulary = gallery
    request = ConceptRequest(concept=concept, kind=kind)
    plan = plan_concept(request, encoder, vocabulary=vocabulary)
    config = EraseConfig.from_recipe("instant", width=128, height=128)
    encoded = encode_prompts(plan, encoder, **needed_by(config))
    named, others = prompts_with(concept, 16), prompts_without(concept, 24)
    texts = [one.text for one in (*named, *others)]
    with backend.session():
        erasure = train_erasure(
            backend, encoded, config, generator=torch.Generator().manual_seed(0)
        )
        names = [key.removesuffix(".alpha") for key in erasure.state if key.endswith(".alpha")]
        slices = backend.linear_slices(names)
        before = draw_pictures(backend, encoder, vae, texts, seed=1, steps=12)
        with LoraSet.from_state(slices, erasure.state).attach(slices):
            after = draw_pictures(backend, encoder, vae, texts, seed=1, steps=12)
    there = [found(concept, named, look(some[:16])).float().mean() for some in (before, after)]
    kept = [obeyed(others, look(some[16:])).mean() for some in (before, after)]
    assert there[0] >= 0.8 and there[1] <= 0.15
    assert replaced(concept, plan.anchor, named, look(after[:16])).float().mean() >= 0.7
    assert kept[1] >= 0.95 * kept[0]
