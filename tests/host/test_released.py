"""What the released code gave, given again: velocities, attention, gradients, a training, a file.

The files in `released/` were made by commit 8f68749; `tiny_flux` and `demo_10_steps` in float64 by
a43a7a7, which gave its bits. In float32 two processors differ in the fifth digit of a gradient, and
a training's first steps make that large; in float64 all agree to 12 digits.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from eraseanything_pack.benchmarks.erasure.methods import FAST_0_1
from eraseanything_pack.erase_engine.backends.comfy.text_encoder import ComfyTextEncoder
from eraseanything_pack.erase_engine.concepts.plan import ConceptPlan
from eraseanything_pack.erase_engine.concepts.planner import plan_concept
from eraseanything_pack.erase_engine.concepts.request import ConceptRequest
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.lora.file import load_lora, prefixed
from eraseanything_pack.erase_engine.sampling import sampled, start_noise
from eraseanything_pack.erase_engine.training import loop
from eraseanything_pack.erase_engine.training.encoded_prompts import encode_prompts
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.erase_engine.training.teacher import (
    CountedModel,
    Trajectories,
    _every_row,
)
from eraseanything_pack.erase_engine.training.trajectories import (
    TrajectoryCache,
    cache_trajectories,
)
from eraseanything_pack.nodes.host.patch_lora import apply_lora
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.tinyworld.load import load_tiny
from eraseanything_pack.tinyworld.models import build_model, load_weights
from eraseanything_pack.tinyworld.planning import TINY_WORLD
from random_nets import trained_lora
from safetensors import safe_open
from safetensors.torch import load_file
from snapshot import sample
from tiny_flux import build, capture, gradients, inputs, slices_of

RELEASED = Path(__file__).parent / "released"
ERROR = 1e-12  # relative to a tensor's largest value
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def float64(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the host or the engine asks for in float32 is float64: a time's waves, RoPE, losses."""
    usual = torch.get_default_dtype()
    monkeypatch.setattr(torch, "float32", torch.float64)
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(usual)


@pytest.fixture(scope="module")
def tiny() -> tuple[Any, ComfyTextEncoder]:
    """The tiny world's Flux, and its text encoders."""
    model, clip, _ = load_tiny("Flux")
    return model, ComfyTextEncoder(clip)


def same(found: torch.Tensor, released: torch.Tensor) -> bool:
    return bool((found - released).abs().max() <= ERROR * released.abs().max().clamp(min=1e-12))


def given(model: Any, *, checkpointing: bool) -> Tensors:
    """Velocity, attention mass of every block, and gradients of adapters on the tiny Flux."""
    with torch.inference_mode(), training_session(model, checkpointing=checkpointing) as backend:
        lora = trained_lora(backend, "text_pooled", torch.float64)
        request, x = capture(0, 1, 2, 3), inputs(dtype=torch.float64)
        with lora.attach(slices_of(backend, lora)):
            found = {"velocity": backend.velocity(*x, capture=request).detach()}
        found |= {f"mass.{block}": mass.detach() for block, mass in request.mass.items()}
        grads = gradients(backend, lora, torch.float64)
    return found | {f"gradient.{name}": grad for name, grad in grads.items()}


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("mode", ["kept", "checkpointed"])
@pytest.mark.parametrize("kind", ["guided", "plain"])
def test_the_models_answers_are_the_released_ones(kind: str, mode: str) -> None:
    released = load_file(RELEASED / "tiny_flux.safetensors")
    model = build(torch.float64, guidance_embed=kind == "guided")
    assert same(sample(model), released[f"{kind}.host"])  # else it is the host that changed
    found = given(model, checkpointing=mode == "checkpointed")
    key = f"{kind}.{mode}."
    expected = {n.removeprefix(key): t for n, t in released.items() if n.startswith(key)}
    assert found.keys() == expected.keys()
    assert [name for name in found if not same(found[name], expected[name])] == []


def released_trajectories(model: CountedModel, *, generator: Any, on_pass: Any) -> Trajectories:
    """As they were sampled then: concept and anchor had paths of one prompt, from one noise.

    The teacher's attention is a thousandth more than it was: L_attn has a kink where nothing is
    trained yet, and rounding would choose its side.
    """
    config = model.config
    cached = partial(cache_trajectories, times=model.times, at_once=config.batch, on_pass=on_pass)
    noise = model.noise(config.paths, generator)
    rows = _every_row(len(model.encoded.concept), config.paths, generator)
    both = (
        cached(partial(model.erase_teacher, follow=prompt), rows, noise=noise) for prompt in (0, 1)
    )
    erase = TrajectoryCache.join(*both)
    erase = replace(erase, mass=1.001 * erase.mass)
    rows = _every_row(len(model.encoded.keep), config.keep_paths, generator)
    noise = model.noise(config.keep_paths, generator)
    return Trajectories(erase, cached(partial(model.keep_teacher, follow=0), rows, noise=noise))


@pytest.mark.usefixtures("float64")
def test_ten_steps_of_the_demo_give_the_released_lora(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loop, "cache_all_trajectories", released_trajectories)
    model = build_model(load_weights("flux"), (torch.float64, None))
    encoder = ComfyTextEncoder(load_tiny("Flux")[1])
    plan = ConceptPlan.from_json((RELEASED / "plan.json").read_text(encoding="utf-8"))
    paths = {"trajectories": 10, "keep_trajectories": 10}
    config = EraseConfig(**{**FAST_0_1, **paths, "steps": 10, "width": 128, "height": 128})
    with torch.inference_mode():
        encoded = encode_prompts(plan, encoder, contrast=False, dtype=torch.float64)
        with training_session(model, guidance=config.guidance) as backend:
            generator = torch.Generator().manual_seed(0)
            found = train_erasure(backend, encoded, config, generator=generator)
    with safe_open(RELEASED / "demo_10_steps.safetensors", "pt") as file:
        record = file.metadata()
    expected = load_file(RELEASED / "demo_10_steps.safetensors")
    assert found.forwards == int(record["forwards"])
    for name, losses in json.loads(record["history"]).items():
        assert found.history[name] == pytest.approx(losses, rel=1e-9, abs=1e-12), name
    assert found.state.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found.state[name], value, rtol=0, atol=1e-9, msg=name)


def test_the_demos_plan_is_the_released_one(tiny: tuple[Any, ComfyTextEncoder]) -> None:
    request = ConceptRequest(concept="star", kind="object", synonyms=("pentagram",))
    found = plan_concept(request, tiny[1], vocabulary=TINY_WORLD)
    released = ConceptPlan.from_json((RELEASED / "plan.json").read_text("utf-8"))
    assert replace(found, held=()) == released  # which is older than sentences that are held


def test_an_old_file_gives_the_released_latents(tiny: tuple[Any, ComfyTextEncoder]) -> None:
    model, encoder = tiny
    state, record = load_lora(RELEASED / "old_star.safetensors")
    assert record["concept"] == "star"
    whole = prefixed(state)
    erased, _ = apply_lora(model, whole, 1.0, name="old_star.safetensors", metadata=record)
    prompts = ["a red star on a white background", "a blue circle above a green square"]
    noise = start_noise(2, (16, 16, 16), seed=1)
    with torch.inference_mode():
        cond = encoder.encode(prompts)
        found, plain = (drawn(each, cond, noise) for each in (erased, model))
    expected = load_file(RELEASED / "demo_latents.safetensors")["latents"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-4)
    assert (plain - expected).abs().max() > 0.1  # the file does something


def drawn(model: Any, cond: Any, noise: torch.Tensor) -> torch.Tensor:
    with training_session(model, guidance=3.0) as backend:
        return sampled(backend, cond, noise, steps=8, unconditional=cond.prompts[0])
