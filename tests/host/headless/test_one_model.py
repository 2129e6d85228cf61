"""A net of each family in both programs: one velocity, attention, gradient, and LoRA."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import model_description
from eraseanything_pack.erase_engine.config import EraseConfig, LoraConfig, LossWeights
from eraseanything_pack.erase_engine.interfaces import AttentionCapture
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.nodes.host.session import training_session
from families.nets import TOKENS, Net, distance, plan_of
from families.twins import TWINS
from random_nets import trained_lora
from tiny_flux import NEWER_HOST

CONFIG = EraseConfig(
    steps=4,
    batch=2,
    keep_per_step=2,
    trajectories=2,
    trajectory_steps=3,
    weights=LossWeights(esd=1.0, attention=0.1, keep=1.0),
    lora=LoraConfig(rank=3, alpha=6.0, targets="text_in_pooled"),
)
# Z-Image's times are drawn by another arithmetic; newer hosts turn by another one.
BOUNDS = dict.fromkeys(TWINS if NEWER_HOST else ("z-image",), 1e-4)
of_each = pytest.mark.parametrize("name", list(TWINS))


def seen(backend: Any, net: Net) -> tuple[torch.Tensor, AttentionCapture, list[torch.Tensor]]:
    """A pass's velocity and attention, and gradients of a LoRA on all of the text's layers."""
    lora = trained_lora(backend, "text_in_pooled")
    with lora.attach(backend.linear_slices(backend.target_names("text_in_pooled"))):
        capture = AttentionCapture(TOKENS, tuple(range(net.joint)))
        velocity = backend.velocity(*net.inputs(), capture=capture).detach()
        net.loss(backend).backward()
    grads = [each.grad for each in lora.parameters()]
    return velocity, capture, [each for each in grads if each is not None]  # else it leads nowhere


@of_each
def test_one_model_in_both(name: str, noted: Any) -> None:
    twin = TWINS[name]
    net = twin.net
    model = net.build(inference=False)
    with training_session(model, guidance=3.0) as backend:
        times, cfg = backend.timesteps(5, 4, 6), backend.cfg
        entrances = dict(backend.entrances)
        velocity, capture, grads = seen(backend, net)
    theirs = twin.backend(net.build(inference=False))
    assert (theirs.cfg, theirs.blocks) == (cfg, net.blocks)
    assert theirs.description == model_description(model)
    assert theirs.entrances == entrances and set(entrances) <= {*theirs.target_names("text_in")}
    torch.testing.assert_close(theirs.timesteps(5, 4, 6), times)
    with theirs.session():
        found, watched, slopes = seen(theirs, net)
    worst = {
        "velocity": distance(found, velocity),
        "mass": max(distance(watched.mass[block], mass) for block, mass in capture.mass.items()),
        "gradient": max(
            distance(one, other) for one, other in zip(slopes, grads, strict=True) if other.any()
        ),
    }
    for figure, error in worst.items():
        noted(f"{figure}_diffusers", error)
        assert error < BOUNDS.get(name, 1e-5), figure


@of_each
def test_one_seed_gives_one_lora(name: str, noted: Any) -> None:
    twin = TWINS[name]
    height, width = twin.net.size
    config = replace(CONFIG, height=height, width=width)

    def trained(backend: Any) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(config.seed)
        return train_erasure(backend, plan_of(twin.net), config, generator=generator).state

    with training_session(twin.net.build(inference=False), guidance=3.0) as backend:
        expected = trained(backend)
    with twin.backend(twin.net.build(inference=False)).session() as backend:
        found = trained(backend)
    assert found.keys() == expected.keys()
    error = max(float((found[key] - value).abs().max()) for key, value in expected.items())
    noted("lora_diffusers", error)
    assert error < BOUNDS.get(name, 1e-5)
