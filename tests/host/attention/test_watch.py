"""Watch Attention: maps of the pictures that the host's own samplers draw, and nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import graph
import numpy
import pytest
import torch
from eraseanything_pack.erase_engine.attention import recorder as engine_watch
from eraseanything_pack.erase_engine.attention.query import AttentionQuery, Word
from eraseanything_pack.erase_engine.interfaces import LatentGrid
from tiny_flux import build
from watching import (
    OTHER_PROMPT,
    STEPS,
    advanced,
    conditioning,
    empty,
    guided,
    ksampler,
    maps_of,
    masses,
    same_as_preview,
    seen,
    watch,
)


@pytest.fixture(autouse=True)
def _folders(loras: Path) -> None:
    """What the preview saves goes to a folder of the test's."""


@pytest.fixture
def model() -> Any:
    return graph.flux()


@pytest.mark.parametrize("view", ["training signal", "saliency"])
@pytest.mark.parametrize("cfg", [1.0, 3.0])
@pytest.mark.parametrize("sampler", ["KSampler", "SamplerCustomAdvanced"])
def test_a_sampler_shows_what_the_preview_shows(
    model: Any, sampler: str, cfg: float, view: str
) -> None:
    """At guidance 1 to the pixel; above it another picture is drawn, so only its first step is."""
    patched, positive, eye = watch(model, view=view)
    if sampler == "KSampler":
        latent = ksampler(patched, positive, cfg=cfg)
    else:
        latent = advanced(patched, positive, cfg=cfg)[0]
    if cfg == 1:
        same_as_preview(seen(eye, latent), model, view=view)
        return
    plain_patched, positive, plain_eye = watch(model, view=view)
    plain = ksampler(plain_patched, positive)
    found, alone = (maps_of(*each) for each in ((eye, latent), (plain_eye, plain)))
    torch.testing.assert_close(found.steps[0], alone.steps[0])
    assert len(found.steps) == STEPS and not torch.allclose(found.steps[1], alone.steps[1])


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_each_picture_of_a_batch_has_its_own_maps(model: Any, cfg: float) -> None:
    patched, positive, eye = watch(model)
    latent = ksampler(patched, positive, latent_image=empty(3), cfg=cfg)
    for picture in (1, 2, 3):
        alone_model, positive, alone = watch(model)
        samples = latent | {"samples": torch.zeros(1, 16, 8, 8), "batch_index": [picture - 1]}
        single = ksampler(alone_model, positive, latent_image=samples, cfg=cfg)
        torch.testing.assert_close(
            maps_of(eye, latent, picture - 1).steps, maps_of(alone, single).steps
        )
    every = [seen(eye, latent, picture=picture) for picture in (1, 2, 3)]
    assert len({tuple(masses(each)) for each in every}) == 3
    notes = [each.ui["eraseanything_maps"][0]["note"] for each in every]
    assert notes == ["picture 1 of 3", "picture 2 of 3", "picture 3 of 3"]


def test_another_packs_number_is_a_number(model: Any) -> None:
    """As packs for mathematics give it."""
    patched, positive, eye = watch(model)
    latent = ksampler(patched, positive)
    assert masses(seen(eye, latent, picture=numpy.int64(1))) == masses(seen(eye, latent))


def test_both_outputs_of_a_sampler_are_known(model: Any) -> None:
    patched, positive, eye = watch(model)
    output, denoised = advanced(patched, positive, batch=2)
    assert not torch.equal(output["samples"], denoised["samples"])
    assert masses(seen(eye, output)) == masses(seen(eye, denoised))


def test_the_prompt_may_be_encoded_and_changed_elsewhere(model: Any) -> None:
    patched, positive, eye = watch(model)
    elsewhere = conditioning(graph.PROMPT)
    mine = seen(eye, ksampler(patched, positive))
    assert masses(seen(eye, ksampler(patched, guided(elsewhere)))) == masses(mine)
    assert masses(seen(eye, ksampler(patched, guided(elsewhere, 1.0)))) != masses(mine)


def test_a_negative_prompt_is_not_looked_at(model: Any) -> None:
    """Whatever its place in the batch: the prompt is known by its features."""
    patched, positive, eye = watch(model)
    other = conditioning(OTHER_PROMPT)
    asked = ksampler(patched, positive, negative=other, cfg=3.0)
    avoided = ksampler(patched, other, negative=positive, cfg=3.0)
    first, second = (maps_of(eye, each) for each in (asked, avoided))
    torch.testing.assert_close(first.steps[0], second.steps[0])
    assert not torch.allclose(first.steps[1], second.steps[1])


@pytest.mark.parametrize(("sampler", "times"), [("heun", STEPS), ("dpm_2", 2 * STEPS - 1)])
def test_what_is_asked_twice_at_one_time_is_one_step(model: Any, sampler: str, times: int) -> None:
    patched, positive, eye = watch(model)
    latent = ksampler(patched, positive, sampler_name=sampler)
    assert len(maps_of(eye, latent).steps) == times


def test_steps_are_means_of_their_time() -> None:
    look = AttentionQuery((Word("star", (0,)),), "training signal", (0,))
    sampling = engine_watch.RecordedSampling(torch.Size((1, 16, 2, 2)), LatentGrid(16))
    for time, mass in ((1.0, 0.2), (0.5, 0.3), (0.5, 0.5)):
        capture = look.capture()
        capture.mass[0] = torch.full((1, 2, 1, 1), mass)
        sampling.add(look, capture, [0], time)
    sampling.add(look, look.capture(), [0], 0.25)  # a cache has left the block out
    maps = sampling.maps(0)
    assert maps is not None
    torch.testing.assert_close(maps.steps.flatten(), torch.tensor([0.2, 0.4]))


def test_features_behind_the_text_do_no_harm(model: Any) -> None:
    """As a style model puts them there."""
    patched, positive, eye = watch(model)
    ((text, rest),) = positive
    longer = [[torch.cat([text, torch.randn(1, 6, text.shape[2])], dim=1), rest]]
    maps = maps_of(eye, ksampler(patched, longer))
    assert maps.steps.shape == (STEPS, 2, 4, 4)
    assert not torch.allclose(maps.steps, maps_of(eye, ksampler(patched, positive)).steps)


def test_a_prompt_is_known_in_every_precision() -> None:
    """float8 weights, computed in bfloat16."""
    coarse = build(torch.float8_e4m3fn, compute=torch.bfloat16, sizes=graph.SIZES)
    patched, positive, eye = watch(coarse)
    maps = maps_of(eye, ksampler(patched, positive, cfg=2.0))
    assert maps.steps.dtype == torch.float32 and (maps.steps > 0).all()


def test_odd_sizes(model: Any) -> None:
    """Seven latent pixels are four places, the last of them half filled."""
    patched, positive, eye = watch(model)
    latent = ksampler(patched, positive, latent_image={"samples": torch.zeros(1, 16, 7, 10)})
    assert maps_of(eye, latent).steps.shape == (STEPS, 2, 4, 5)
