"""A watched model, the host's samplers with it, and what was seen."""

from __future__ import annotations

import functools
import re
from typing import Any

import comfy_extras.nodes_custom_sampler as custom
import graph
import pytest
import torch
from comfy_extras.nodes_flux import FluxGuidance
from eraseanything_pack.erase_engine.attention.recorder import AttentionRecorder
from eraseanything_pack.erase_engine.backends import blocks
from eraseanything_pack.nodes.attention.preview import GUIDANCE
from eraseanything_pack.nodes.attention.watch import WatchAttention, WatchedAttention

import nodes as host_nodes

STEPS = graph.LOOK["steps"]
OTHER_PROMPT = "a blue circle"


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


def maps_of(eye: AttentionRecorder, latent: Any, picture: int = 0) -> Any:
    sampling = eye.found(latent["samples"])
    assert sampling is not None
    return sampling.maps(picture)


def counted_looks(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows with each attention that is computed for the sake of a look."""
    looks: list[int] = []
    own = blocks.attention_mass

    def counting(*args: Any) -> torch.Tensor:
        looks.append(1)
        return own(*args)

    monkeypatch.setattr(blocks, "attention_mass", counting)
    return looks
