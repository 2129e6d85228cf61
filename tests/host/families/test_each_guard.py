"""Which guard each family needs, and what its weights may be: float8, or patched at the cast."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from eraseanything_pack.nodes.host.session import training_session
from families.mutants import MUTANTS
from families.nets import NETS, Net
from random_nets import trained_lora

TARGET = "text_in_pooled"
WAYS = [(True, True), (False, True), (True, False), (False, False)]  # checkpointed, inference
by_name = pytest.mark.parametrize("name", list(NETS))


def unchanged(model: Any) -> None:
    pass


def gradients(
    model: Any, net: Net, *, checkpointing: bool = True, patch: Callable[[Any], None] = unchanged
) -> list[torch.Tensor]:
    with torch.inference_mode(), training_session(model, checkpointing=checkpointing) as on:
        patch(model)
        lora = trained_lora(on, TARGET)
        with lora.attach(on.linear_slices(on.target_names(TARGET))):
            net.loss(on).backward()
        # A last block's text leads nowhere.
        return [p.new_zeros(p.shape) if p.grad is None else p.grad for p in lora.parameters()]


def near(found: list[torch.Tensor], expected: list[torch.Tensor]) -> bool:
    return all(
        (one - other).norm() <= 1e-4 * other.norm() + 1e-7
        for one, other in zip(found, expected, strict=True)
    )


def fails(net: Net, expected: list[torch.Tensor]) -> bool:
    """Whether in any way of holding the model the gradients are wrong, or there are none."""
    for checkpointing, inference in WAYS:
        model = net.build(inference=inference)
        try:
            found = gradients(model, net, checkpointing=checkpointing)
        except RuntimeError:
            return True
        left = any(each.grad is not None for each in model.model.parameters())
        if left or not near(found, expected):
            return True
    return False


@by_name
def test_guards_that_are_needed_are_known(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    net = NETS[name]
    expected = gradients(net.build(), net)
    found = set()
    for guard, mutant in MUTANTS.items():
        with monkeypatch.context() as patch:
            patch.setattr(*mutant)
            if fails(net, expected):
                found.add(guard)
    assert found == net.guards


@by_name
def test_float8_weights_have_the_gradient_of_their_numbers(name: str) -> None:
    net = NETS[name]
    packed = net.build(torch.float8_e4m3fn, torch.float32)
    same = net.build(inference=False)
    same.model.load_state_dict(
        {key: value.float() for key, value in packed.model.state_dict().items()}
    )
    assert near(gradients(packed, net), gradients(same, net))


@by_name
def test_weights_patched_at_the_cast(name: str) -> None:
    """As the host holds them while a part of the model is elsewhere."""
    net = NETS[name]

    def linears(model: Any) -> list[Any]:
        modules = model.model.diffusion_model.modules()
        return [each for each in modules if isinstance(each, torch.nn.Linear)][::3]

    def patched(model: Any) -> None:
        for layer in linears(model):
            layer.weight_function = [lambda weight: weight * 1.25]

    plain = net.build(inference=False)
    for layer in linears(plain):
        layer.weight.data *= 1.25
    assert near(gradients(net.build(), net, patch=patched), gradients(plain, net))
