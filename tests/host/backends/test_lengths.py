"""Prompts of several lengths in one batch: each is answered as it would be alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from eraseanything_pack.erase_engine.interfaces import AttentionCapture, Conditioning, Prompt
from eraseanything_pack.nodes.host.session import training_session
from tiny_diffusers import backend_of
from tiny_flux import build, inputs

LENGTHS = (5, 8, 8, 5)  # the order in which they run is not its own inverse
TOKENS = torch.tensor([[1, 3], [7, -1], [6, 2], [0, 4]])


@pytest.fixture(params=["comfy", "diffusers"])
def backend(request: pytest.FixtureRequest) -> Iterator[Any]:
    model = build()
    session = training_session(model) if request.param == "comfy" else backend_of(model).session()
    with session as opened:
        yield opened


def batch() -> tuple[torch.Tensor, torch.Tensor, Conditioning]:
    generator = torch.Generator().manual_seed(4)
    prompts = [
        Prompt(torch.randn(length, 20, generator=generator), torch.randn(12, generator=generator))
        for length in LENGTHS
    ]
    x_t, t, _ = inputs()
    return x_t[[0, 1, 1, 0]], t[[0, 1, 0, 1]], Conditioning(tuple(prompts))


def test_each_prompt_is_answered_as_it_is_alone(backend: Any) -> None:
    x_t, t, cond = batch()
    together = AttentionCapture(TOKENS, (0, 2), outputs=True)
    with torch.no_grad():
        found = backend.velocity(x_t, t, cond, capture=together)
        for row in range(len(cond)):
            alone = AttentionCapture(TOKENS[[row]], (0, 2), outputs=True)
            one = backend.velocity(x_t[[row]], t[[row]], cond.take([row]), capture=alone)
            torch.testing.assert_close(found[[row]], one, rtol=1e-5, atol=1e-5)
            for block in (0, 2):
                mass, likeness = together.mass[block][[row]], together.likeness[block][[row]]
                torch.testing.assert_close(mass, alone.mass[block], rtol=1e-5, atol=1e-6)
                torch.testing.assert_close(likeness, alone.likeness[block], rtol=1e-4, atol=1e-5)


def test_the_text_of_every_length_has_a_gradient(backend: Any) -> None:
    x_t, t, cond = batch()
    texts = [prompt.text.requires_grad_() for prompt in cond.prompts]
    request = AttentionCapture(TOKENS, (0,))
    velocity = backend.velocity(x_t, t, cond, capture=request)
    (velocity.square().mean() + request.mass[0].sum()).backward()
    assert all(text.grad is not None and text.grad.abs().sum() > 0 for text in texts)
