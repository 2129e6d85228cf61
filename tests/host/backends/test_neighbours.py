"""Other packs that patch the model for everybody: named, with what to do, and nothing is kept."""

from __future__ import annotations

from types import MethodType
from typing import Any

import comfy.ldm.flux.math
import pytest
import torch
from eraseanything_pack.nodes.host.session import training_session
from snapshot import assert_same, snapshot
from tiny_flux import build, capture, inputs


def plain_function(
    q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, heads: int, **options: Any
) -> torch.Tensor:
    """As a pack that replaces attention for all models has it: it calls no override."""
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return out.transpose(1, 2).flatten(2)


@pytest.mark.parametrize("watched", [True, False], ids=["watched", "plain"])
def test_attention_replaced_for_all_models_is_named(
    watched: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = build()
    before = snapshot(model)
    with monkeypatch.context() as patched:
        patched.setattr(comfy.ldm.flux.math, "optimized_attention", plain_function)
        with (
            pytest.raises(ValueError, match="whose attention another node pack has replaced"),
            training_session(model) as backend,
        ):
            backend.velocity(*inputs(), capture=capture() if watched else None)
    assert_same(before, snapshot(model))


def test_a_forward_that_drops_the_options_is_named() -> None:
    model = build(inference=False)
    net = model.model.diffusion_model
    own = type(net).forward_orig

    def without_options(self: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return own(self, *args[:7], **{**kwargs, "transformer_options": {}})

    net.forward_orig = MethodType(without_options, net)
    with (
        pytest.raises(ValueError, match=r"gives its blocks no transformer_options.*Take that pack"),
        training_session(model) as backend,
    ):
        backend.velocity(*inputs())
