"""Watch Attention: maps of the pictures that the host's own samplers draw, and nothing else."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import comfy.model_management
import comfy.samplers
import comfy_extras.nodes_custom_sampler as custom
import execution
import folder_paths
import graph
import pytest
import server
import torch
from comfy_extras.nodes_flux import FluxGuidance
from comfy_extras.nodes_sd3 import EmptySD3LatentImage
from eraseanything_pack.erase_engine.attention import recorder as engine_watch
from eraseanything_pack.erase_engine.attention.query import AttentionQuery, Word
from eraseanything_pack.erase_engine.attention.recorder import AttentionRecorder
from eraseanything_pack.erase_engine.backends.comfy import guards as comfy_guards
from eraseanything_pack.nodes.attention.preview import GUIDANCE
from eraseanything_pack.nodes.attention.watch import WatchAttention, WatchedAttention
from eraseanything_pack.nodes.demo import LoadTinyFlux
from eraseanything_pack.nodes.host.patch_lora import apply_lora
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.tinyworld.models import build_vae, load_weights
from snapshot import assert_same, snapshot
from tiny_flux import build, inputs

import nodes as host_nodes

OVERRIDE = comfy_guards.OVERRIDE
STEPS = graph.LOOK["steps"]
OTHER_PROMPT = "a blue circle"


@pytest.fixture(autouse=True)
def _folders(loras: Path) -> None:
    """What the preview saves goes to a folder of the test's."""


@pytest.fixture
def model() -> Any:
    return graph.flux()


@torch.inference_mode()
def watch(model: Any, **widgets: Any) -> tuple[Any, Any, AttentionRecorder]:
    """Watch Attention: MODEL, CONDITIONING at the preview's guidance, WATCH."""
    widgets = {"prompt": graph.PROMPT, "words": "star\nred", **widgets}
    patched, positive, eye = WatchAttention.execute(model, graph.clip(), **widgets).args
    return patched, guided(positive), eye


def guided(positive: Any, guidance: float = GUIDANCE) -> Any:
    return FluxGuidance.execute(positive, guidance).args[0]


@functools.cache  # as graph's encoder does, whose memory the host takes entries out of
@torch.inference_mode()
def conditioning(prompt: str) -> Any:
    (encoded,) = host_nodes.CLIPTextEncode().encode(graph.clip(), prompt)
    return encoded


def empty(batch: int = 1, side: int = 8) -> dict[str, torch.Tensor]:
    return {"samples": torch.zeros(batch, 16, side, side)}


@torch.inference_mode()
def ksampler(model: Any, positive: Any, **widgets: Any) -> dict[str, torch.Tensor]:
    """A KSampler's LATENT, with the settings of Attention Map Preview where none are given."""
    widgets = {
        **{"seed": 0, "steps": STEPS, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"},
        "negative": conditioning(""),
        "latent_image": empty(),
        **widgets,
    }
    (latent,) = host_nodes.KSampler().sample(model, positive=positive, **widgets)
    return latent


@torch.inference_mode()
def advanced(model: Any, positive: Any, *, cfg: float = 1.0, batch: int = 1) -> Any:
    """SamplerCustomAdvanced: its output, and its denoised one."""
    (noise,) = custom.RandomNoise.execute(0).args
    (guider,) = custom.CFGGuider.execute(model, positive, conditioning(""), cfg).args
    (sampler,) = custom.KSamplerSelect.execute("euler").args
    (sigmas,) = custom.BasicScheduler.execute(model, "simple", STEPS, 1.0).args
    return custom.SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, empty(batch)).args


@torch.inference_mode()
def seen(watch: AttentionRecorder, latent: Any, **inputs: Any) -> Any:
    """Watched Attention's whole output."""
    return WatchedAttention.execute(watch, latent, **{"picture": 1, **inputs})


def masses(output: Any) -> list[float]:
    """The numbers of a node's text, in per cent."""
    return [float(number) for number in re.findall(r"([\d.]+)%", output.args[1])]


def same_as_preview(output: Any, model: Any, **widgets: Any) -> None:
    """Sheet and numbers are those of Attention Map Preview."""
    preview = graph.looked(model, **widgets)
    assert masses(output) == pytest.approx(masses(preview), abs=0.011)
    torch.testing.assert_close(output.args[0], preview.args[0], rtol=0, atol=0.03)


# --- the same numbers --------------------------------------------------------------------------


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


def maps_of(eye: AttentionRecorder, latent: Any, picture: int = 0) -> Any:
    sampling = eye.found(latent["samples"])
    assert sampling is not None
    return sampling.maps(picture)


@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_each_picture_of_a_batch_has_its_own_maps(model: Any, cfg: float) -> None:
    patched, positive, eye = watch(model)
    latent = ksampler(patched, positive, latent_image=empty(2), cfg=cfg)
    for picture in (1, 2):
        alone_model, positive, alone = watch(model)
        samples = latent | {"samples": torch.zeros(1, 16, 8, 8), "batch_index": [picture - 1]}
        single = ksampler(alone_model, positive, latent_image=samples, cfg=cfg)
        torch.testing.assert_close(
            maps_of(eye, latent, picture - 1).steps, maps_of(alone, single).steps
        )
    first, second = (seen(eye, latent, picture=picture) for picture in (1, 2))
    assert masses(first) != masses(second)
    notes = [each.ui["eraseanything_maps"][0]["note"] for each in (first, second)]
    assert notes == ["picture 1 of 2", "picture 2 of 2"]


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
    sampling = engine_watch.RecordedSampling(torch.Size((1, 16, 2, 2)))
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


# --- with other patches ------------------------------------------------------------------------


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


# --- what it leaves ----------------------------------------------------------------------------


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


def counted_looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each attention that is computed for the sake of a look."""
    looks: list[int] = []
    own = comfy_guards.attention_mass

    def counting(*args: Any) -> torch.Tensor:
        looks.append(1)
        return own(*args)

    monkeypatch.setattr(comfy_guards, "attention_mass", counting)
    return looks


# --- errors ------------------------------------------------------------------------------------


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
    with pytest.raises(ValueError, match="expected a Flux model"):
        watch(graph.unet())
    with pytest.raises(ValueError, match="Got 'moon' in words, which is not in the prompt"):
        watch(model, words="moon")


# --- when nobody looks -------------------------------------------------------------------------


def prompt_graph(*, looking: bool, seed: int = 0) -> dict[str, Any]:
    """A workflow in the host's form: a watched sampler, and what shows what was seen."""
    sampling = {"steps": 1, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple"}
    found = {
        "tiny": ("EraseAnythingTinyFlux", {}),
        "watch": (
            "EraseAnythingWatch",
            {"model": ["tiny", 0], "clip": ["tiny", 1], "prompt": graph.PROMPT, "words": "star"},
        ),
        "empty": ("EmptySD3LatentImage", {"width": 128, "height": 128, "batch_size": 1}),
        "sampler": (
            "KSampler",
            {
                **sampling,
                "seed": seed,
                "denoise": 1.0,
                "model": ["watch", 0],
                "positive": ["watch", 1],
                "negative": ["watch", 1],
                "latent_image": ["empty", 0],
            },
        ),
        "decode": ("VAEDecode", {"samples": ["sampler", 0], "vae": ["tiny", 2]}),
        "preview": ("PreviewImage", {"images": ["decode", 0]}),
    }
    if looking:
        link = {"watch": ["watch", 2], "latent": ["sampler", 0], "picture": 1}
        found["watched"] = ("EraseAnythingWatched", link)
    return {name: {"class_type": kind, "inputs": inputs} for name, (kind, inputs) in found.items()}


CACHE = {"lru": 0, "ram": 0, "ram_inactive": 0}  # as without options


class Host:
    """The host's own server, queue and executor in this process, with our nodes; no socket."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        running = server.PromptServer(self.loop)
        self.queue = running.prompt_queue = execution.PromptQueue(running)
        self.executor = execution.PromptExecutor(running, cache_args=CACHE)
        self.number = 0

    def run(self, prompt: dict[str, Any]) -> None:
        """As the host's worker does it."""
        self.number += 1
        item = (self.number, f"run {self.number}", prompt, {}, ["preview", "watched"], {})
        self.queue.put(item)
        taken, item_id = self.queue.get()
        self.executor.execute(taken[2], taken[1], taken[3], [n for n in taken[4] if n in prompt])
        assert self.executor.success, self.executor.status_messages
        status = None
        self.queue.task_done(item_id, self.executor.history_result, status)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    monkeypatch.setattr(folder_paths, "user_directory", str(tmp_path / "user"))
    monkeypatch.setattr(server.PromptServer, "instance", None, raising=False)
    for node in (LoadTinyFlux, WatchAttention, WatchedAttention, EmptySD3LatentImage):
        name = node.GET_SCHEMA().node_id
        monkeypatch.setitem(host_nodes.NODE_CLASS_MAPPINGS, name, node)
    made = Host()
    yield made
    made.loop.close()


def test_when_nobody_looks_nothing_is_watched(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither attention nor even a clone; who comes later to look has the sampler draw again."""
    looks = counted_looks(monkeypatch)
    host.run(prompt_graph(looking=False))
    assert not looks
    host.run(prompt_graph(looking=True))
    assert len(looks) == 3  # double blocks, one step
    host.run(prompt_graph(looking=True))
    assert len(looks) == 3  # all of it is cached
    host.run(prompt_graph(looking=True, seed=1))
    assert len(looks) == 6
    host.run(prompt_graph(looking=False, seed=2))
    assert len(looks) == 6
