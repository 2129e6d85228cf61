"""Adapters put on by peft do what the engine's own do, and go away without a trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from eraseanything_pack.erase_engine.backends.diffusers.peft_lora import ADAPTER, PeftLora
from eraseanything_pack.erase_engine.families.flux import FLUX
from eraseanything_pack.erase_engine.interfaces import LinearSlice
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from expected import relative_error
from random_nets import trained_lora
from tiny_diffusers import backend_of, snapshot_of
from tiny_flux import build, gradients, inputs, slices_of


@pytest.fixture
def backend() -> Any:
    return backend_of(build(inference=False))


def through_peft(backend: Any, lora: LoraSet) -> PeftLora:
    """The same adapters, put on by peft."""
    numbers = {"rank": lora.rank, "alpha": lora.alpha, "generator": torch.Generator()}
    made = PeftLora(backend.net, slices_of(backend, lora), **numbers)
    made.load_state_dict(lora.state_dict())
    return made


def test_start_is_the_engines_own(backend: Any) -> None:
    slices = backend.linear_slices(FLUX.target_names("text_pooled", 2))
    before = torch.get_rng_state()
    made = PeftLora(backend.net, slices, rank=3, generator=torch.Generator().manual_seed(7))
    with made.attach(slices):
        pass
    assert torch.equal(torch.get_rng_state(), before)
    ours = LoraSet(slices, rank=3, generator=torch.Generator().manual_seed(7)).state_dict()
    found = made.state_dict()
    assert found.keys() == ours.keys() and all(torch.equal(found[key], ours[key]) for key in ours)


@pytest.mark.parametrize("target", ["text_qk", "text_pooled", "all_attention"])
def test_velocity_and_gradient_are_those_of_hooks(backend: Any, target: str) -> None:
    with backend.session():
        ours = trained_lora(backend, target)
        theirs = through_peft(backend, ours)
        assert relative_error(gradients(backend, theirs), gradients(backend, ours)) < 1e-6
        velocities = []
        for lora in (ours, theirs):
            with lora.attach(slices_of(backend, lora)), torch.no_grad():
                velocities.append(backend.velocity(*inputs()))
    torch.testing.assert_close(*velocities, rtol=1e-6, atol=1e-6)


@torch.no_grad()
def test_disabled_is_the_base_model_bit_for_bit(backend: Any) -> None:
    lora = through_peft(backend, trained_lora(backend))
    base = backend.velocity(*inputs())
    with lora.attach(slices_of(backend, lora)):
        changed = backend.velocity(*inputs())
        with lora.disabled(), lora.disabled():
            assert torch.equal(backend.velocity(*inputs()), base)
        assert torch.equal(backend.velocity(*inputs()), changed)
    assert not torch.equal(changed, base)


def test_peft_holds_the_config_and_the_parameters(backend: Any) -> None:
    lora = through_peft(backend, trained_lora(backend))
    slices = slices_of(backend, lora)
    with lora.attach(slices):
        config = backend.net.peft_config[ADAPTER]
        assert (config.r, config.lora_alpha) == (3, 6.0)
        held = {id(one) for one in backend.net.parameters() if one.requires_grad}
    assert held == {id(one) for one in lora.parameters()}


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_stays_on_the_model(backend: Any, fails: bool) -> None:
    lora = through_peft(backend, trained_lora(backend))
    before = snapshot_of(backend.net)
    _use(backend, lora, fails)
    assert_same(before, snapshot_of(backend.net))


def _use(backend: Any, lora: PeftLora, fails: bool) -> None:
    try:
        with lora.attach(slices_of(backend, lora)):
            if fails:
                raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass


def assert_same(before: dict[str, Any], after: dict[str, Any]) -> None:
    for key, value in before.items():
        assert value == after[key], key


def test_other_adapters_are_named(backend: Any) -> None:
    lora = through_peft(backend, trained_lora(backend))
    slices: dict[str, LinearSlice] = slices_of(backend, lora)
    enter: Callable[[], Any] = lora.attach(slices).__enter__
    with lora.attach(slices), pytest.raises(ValueError, match=r"adapters \['eraseanything'\]"):
        enter()
