"""After a training session, however it ends, the MODEL is bit for bit what it was."""

from __future__ import annotations

from typing import Any

import comfy.model_management
import pytest
import torch
from eraseanything_pack.nodes.host.session import training_session
from random_nets import trained_lora
from snapshot import assert_same, snapshot
from tiny_flux import build, inputs, slices_of


class Trouble(Exception):
    """Stands for whatever goes wrong."""


Cancel = comfy.model_management.InterruptProcessingException


def train(model: Any, trouble: str = "") -> None:
    """A few optimizer steps, with trouble at one place."""
    with torch.inference_mode(), training_session(model) as backend:
        lora = trained_lora(backend)
        optimizer = torch.optim.SGD(lora.parameters(), lr=0.1)
        block = model.model.diffusion_model.double_blocks[1].img_mlp[0]
        with lora.attach(slices_of(backend, lora)):
            for step in range(2):
                with lora.disabled(), torch.no_grad():
                    target = backend.velocity(*inputs())
                if trouble == "forward":
                    block.register_forward_pre_hook(_fail)
                loss = (backend.velocity(*inputs()) - 2 * target).pow(2).mean()
                if trouble == "backward":
                    loss = _FailsBackward.apply(loss)
                if trouble == "recompute":
                    block.register_forward_pre_hook(_fail)
                if trouble == "cancel":
                    comfy.model_management.interrupt_current_processing()
                loss.backward()
                optimizer.step()
                on_step(step, trouble)


def on_step(step: int, trouble: str) -> None:
    if trouble == "on_step" and step == 1:
        raise Trouble
    if trouble == "keyboard":
        raise KeyboardInterrupt


def _fail(module: torch.nn.Module, args: Any) -> None:
    module._forward_pre_hooks.clear()  # this hook is the test's, not the session's
    raise Trouble


class _FailsBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *grads: torch.Tensor) -> Any:
        raise Trouble


ENDINGS = {
    "forward": Trouble,
    "backward": Trouble,
    "recompute": Trouble,
    "on_step": Trouble,
    "keyboard": KeyboardInterrupt,
    "cancel": Cancel,
}


@pytest.mark.parametrize("inference", [True, False], ids=["inference_weights", "plain_weights"])
@pytest.mark.parametrize("trouble", ["", *ENDINGS])
def test_model_is_as_it_was(trouble: str, inference: bool) -> None:
    model = build(inference=inference)
    before = snapshot(model)
    if trouble:
        with pytest.raises(ENDINGS[trouble]):
            train(model, trouble)
    else:
        train(model)
    assert_same(before, snapshot(model))


def test_model_with_the_users_options_is_as_it_was() -> None:
    model = build()
    calls: list[int] = []

    def override(func: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        calls.append(1)
        return func(*args, **kwargs)

    def post_input(args: Any) -> Any:
        return {**args, "txt": args["txt"] * 2}

    model.model_options["transformer_options"]["optimized_attention_override"] = override
    model.set_model_patch(post_input, "post_input")
    before = snapshot(model)
    calls.clear()
    train(model)
    assert calls  # the user's override took part in training
    assert_same(before, snapshot(model))
    kept = model.model_options["transformer_options"]["optimized_attention_override"]
    assert kept is override


def test_a_replaced_forward_comes_back() -> None:
    """Another node may have put its own forward on a layer: it is used, trained through, kept."""
    model = build(inference=False)
    layer = model.model.diffusion_model.single_blocks[0].linear2
    own = layer.forward
    mine = lambda x: own(x) * 2  # noqa: E731
    layer.forward = mine
    train(model)
    assert layer.forward is mine


def test_nothing_is_done_to_a_model_of_no_known_family() -> None:
    with pytest.raises(
        ValueError, match=r"Got object, expected a Flux, SD3, .* model\. Load FLUX\.1"
    ):
        training_session(object()).__enter__()
    assert not torch.is_inference_mode_enabled()
