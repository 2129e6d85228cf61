"""A watched model: with other nodes' patches, what the watching leaves, and what is refused."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

import comfy.ldm.flux.math
import comfy.model_management
import comfy.samplers
import graph
import pytest
import torch
from eraseanything_pack.erase_engine.attention import recorder as engine_watch
from eraseanything_pack.erase_engine.backends.comfy.attention import OVERRIDE
from eraseanything_pack.nodes.host.patch_lora import apply_lora
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.tinyworld.models import build_vae, load_weights
from snapshot import assert_same, snapshot
from tiny_flux import inputs
from watching import (
    OTHER_PROMPT,
    STEPS,
    conditioning,
    counted_looks,
    empty,
    ksampler,
    maps_of,
    masses,
    same_as_preview,
    seen,
    watch,
)

HAS_NAG = find_spec("comfy_extras.nodes_nag") is not None


@pytest.fixture(autouse=True)
def _folders(loras: Path) -> None:
    """What the preview saves goes to a folder of the test's."""


@pytest.fixture
def model() -> Any:
    return graph.flux()


def with_override(model: Any, calls: list[float]) -> Any:
    """A clone whose attention another node has halved, as nodes do it."""
    clone = model.clone()
    options = clone.model_options["transformer_options"]
    earlier = options.get(OVERRIDE)

    def override(func: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(1)
        inner = func if earlier is None else lambda *a, **k: earlier(func, *a, **k)
        return 0.5 * inner(*args, **kwargs)

    options[OVERRIDE] = override
    return clone


@pytest.mark.parametrize("view", ["training signal", "saliency"])
@pytest.mark.parametrize("order", ["before", "after", "both"])
def test_it_works_with_another_override(model: Any, order: str, view: str) -> None:
    calls: list[float] = []
    other = with_override(model, calls)
    if order == "both":
        other = with_override(other, calls)
    before = with_override(model, calls) if order != "after" else model
    patched, positive, eye = watch(before, view=view)
    patched = with_override(patched, calls) if order != "before" else patched
    latent = ksampler(patched, positive)
    assert len(calls) == STEPS * 4 * (2 if order == "both" else 1)  # two double, two single blocks
    same_as_preview(seen(eye, latent), other, view=view)
    assert not torch.allclose(latent["samples"], ksampler(model, positive)["samples"])


def masked(positive: Any, token: int) -> Any:
    """A conditioning whose mask hides a token from the picture, as style models' nodes write it."""
    ((text, rest),) = positive
    count = text.shape[1]
    mask = torch.zeros(1, count + 16, count + 16, dtype=torch.float16)
    mask[:, count:, token] = -torch.inf
    return [[text, {**rest, "attention_mask": mask, "attention_mask_img_shape": (4, 4)}]]


@pytest.mark.parametrize("other", [True, False], ids=["another's attention", "the host's"])
def test_a_mask_in_the_conditioning_is_seen(model: Any, other: bool) -> None:
    """And kept, with an erasure on in a part of sampling as with one on the weights."""
    patched, positive, eye = watch(with_override(model, []) if other else model, words="star\nred")
    (token, *_), _ = (word.tokens for word in eye.look.words)
    given = masked(positive, token)
    hidden = maps_of(eye, ksampler(patched, given)).steps
    assert not hidden[:, 0].any() and hidden[:, 1].all()
    lora = graph.connected(graph.lora_state(model))
    weights, hooks = (graph.apply(model, lora=lora, end=end).args[0] for end in (1.0, 0.9999))
    expected = ksampler(weights, given)["samples"]
    assert not torch.allclose(expected, ksampler(weights, positive)["samples"])
    seen_through, _, eye = watch(hooks, words="star")
    for each in (hooks, seen_through):
        torch.testing.assert_close(ksampler(each, given)["samples"], expected)
    assert not maps_of(eye, ksampler(seen_through, given)).steps.any()


@pytest.mark.parametrize("latent", ["latent", "erased"])
def test_attention_that_another_pack_has_replaced_is_named(
    model: Any, latent: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The prompt is the right one: nobody is sent to look for another."""

    def plain(q: Any, k: Any, v: Any, heads: int, **options: Any) -> torch.Tensor:
        out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
        return out.transpose(1, 2).flatten(2)

    patched, positive, eye = watch(model)
    given = {"latent": ksampler(patched, positive)}
    monkeypatch.setattr(comfy.ldm.flux.math, "optimized_attention", plain)
    given[latent] = ksampler(patched, positive, seed=1)
    with pytest.raises(ValueError, match=rf"in {latent} .*could not be seen.*Patch Sage") as error:
        seen(eye, **given)
    assert len(str(error.value)) < 600


def test_a_picture_that_is_not_finite_is_said_to_be(model: Any) -> None:
    """Nobody is sent to look for the sampler's connection."""
    patched, positive, eye = watch(model)
    patched.set_model_sampler_post_cfg_function(lambda given: given["denoised"] * torch.nan)
    with pytest.raises(ValueError, match=r"Got in latent a picture with numbers that are not fin"):
        seen(eye, ksampler(patched, positive))


@pytest.mark.skipif(not HAS_NAG, reason="the host has no node Normalized Attention Guidance")
def test_guidance_in_attention_doubles_no_picture(model: Any) -> None:
    """The negative prompt is in the same batch; the maps are those of the prompt alone."""
    from comfy_extras.nodes_nag import NAGuidance

    def guided(given: Any) -> Any:
        return NAGuidance.execute(given, 5.0, 0.5, 1.5).result[0]

    patched, positive, eye = watch(model)
    after = ksampler(guided(patched), positive, negative=conditioning(OTHER_PROMPT))
    before, _, other = watch(guided(model))
    latent = ksampler(before, positive, negative=conditioning(OTHER_PROMPT))
    assert masses(seen(eye, after)) == masses(seen(other, latent))
    assert not torch.allclose(latent["samples"], ksampler(model, positive)["samples"])


def test_an_erasure_may_follow(model: Any) -> None:
    """One watch for both models: the sheet has before, after and difference."""
    patched, positive, eye = watch(model)
    state = graph.connected(graph.lora_state(model))
    erased = apply_lora(patched, state, 1.0, name="it")[0]
    before, after = (ksampler(each, positive) for each in (patched, erased))
    output = seen(eye, before, erased=after)
    same_as_preview(output, model, erased=apply_lora(model, state, 1.0, name="it")[0])
    (data,) = output.ui["eraseanything_maps"]
    assert [each["name"] for each in data["models"]] == ["before", "after"]


def test_two_watches_on_one_model(model: Any) -> None:
    once, positive, eye = watch(model, words="star")
    twice, _, other = watch(once, words="red", view="saliency")
    latent = ksampler(twice, positive)
    same_as_preview(seen(eye, latent), model, words="star")
    same_as_preview(seen(other, latent), model, words="red", view="saliency")


def test_pictures_stand_beside_the_maps(model: Any) -> None:
    vae = build_vae(load_weights("vae"))
    patched, positive, eye = watch(model)
    output = seen(eye, ksampler(patched, positive), vae=vae)
    same_as_preview(output, model, vae=vae)


def test_the_model_is_untouched(model: Any) -> None:
    before = snapshot(model, graph.conditioning())
    patched, positive, _ = watch(model)
    assert patched is not model and patched.model is model.model
    drawn = ksampler(patched, positive)
    assert_same(before, snapshot(model, graph.conditioning()))
    assert torch.equal(drawn["samples"], ksampler(model, positive)["samples"])


def test_runs_do_not_mix(model: Any) -> None:
    patched, positive, eye = watch(model)
    latents = [ksampler(patched, positive, seed=seed) for seed in (0, 1, 0)]
    numbers = [masses(seen(eye, latent)) for latent in latents]
    assert numbers[0] == numbers[2] != numbers[1]
    assert len(maps_of(eye, latents[2]).steps) == STEPS
    for seed in range(2, 2 + engine_watch.KEPT):
        ksampler(patched, positive, seed=seed)
    with pytest.raises(ValueError, match="Got in latent what was not drawn with Watch"):
        seen(eye, latents[0])


def test_an_interrupted_run_leaves_nothing(model: Any) -> None:
    patched, positive, eye = watch(model)
    calls = []

    def stop(args: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            raise comfy.model_management.InterruptProcessingException
        return args["denoised"]

    stopped = patched.clone()
    stopped.set_model_sampler_post_cfg_function(stop)
    before = snapshot(model, graph.conditioning())
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        ksampler(stopped, positive)
    assert_same(before, snapshot(model, graph.conditioning()))
    assert eye.now is None and not eye._kept
    assert len(maps_of(eye, ksampler(patched, positive)).steps) == STEPS


def test_a_training_on_a_watched_model_is_not_watched(
    model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    patched, _, eye = watch(model)
    looks = counted_looks(monkeypatch)
    with torch.inference_mode(), training_session(patched) as backend:
        backend.velocity(*inputs()[:2], graph.conditioning().take([0, 0]))
    assert not looks and eye.now is None


def test_errors_say_what_to_connect(model: Any) -> None:
    patched, positive, eye = watch(model)
    with pytest.raises(ValueError, match=r"Connect that MODEL to a sampler, and its LATENT"):
        seen(eye, ksampler(model, positive))
    foreign = ksampler(patched, conditioning(OTHER_PROMPT))
    with pytest.raises(ValueError, match=r"expected Watch Attention's 'a red star on a white b"):
        seen(eye, foreign)
    latent = ksampler(patched, positive, latent_image=empty(2))
    with pytest.raises(ValueError, match=r"Got picture 3, expected 1 to 2: so many are in lat"):
        seen(eye, latent, picture=3)
    single = ksampler(patched, positive, steps=STEPS + 1)
    with pytest.raises(
        ValueError, match=r"Got 2 steps of 4 x 4 places before and 3 of 4 x 4 after"
    ):
        seen(eye, latent, erased=single)
    with pytest.raises(ValueError, match=r"expected a Flux, SD3, .* model"):
        watch(graph.unet())
    with pytest.raises(ValueError, match="Got 'moon' in words, which is not in the prompt"):
        watch(model, words="moon")
