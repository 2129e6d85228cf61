"""Every family through one backend: its velocity, gradients, attention and LoRA are the host's."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comfy.sd
import comfy.utils
import pytest
import torch
from eraseanything_pack.erase_engine.config import EraseConfig, LoraConfig, LossWeights
from eraseanything_pack.erase_engine.interfaces import (
    AttentionCapture,
    Conditioning,
    LatentGrid,
)
from eraseanything_pack.erase_engine.lora.file import load_lora, prefixed, save_lora
from eraseanything_pack.erase_engine.training.loop import train_erasure
from eraseanything_pack.nodes.host.patch_lora import apply_lora
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.nodes.lora.schedule import apply_during
from families.nets import NETS, TOKENS, Net, distance, plan_of
from random_nets import trained_lora
from snapshot import assert_same, snapshot

STEP = 3e-6  # of finite differences: their own error falls with its square, rounding rises
by_name = pytest.mark.parametrize("name", list(NETS))


def sampled(model: Any, net: Net, x: torch.Tensor, t: torch.Tensor, cond: Conditioning) -> Any:
    """The velocity of the host's own pass, (x - denoised) / t, as a sampler asks for it."""
    base = model.model
    x = x[:, :, None] if net.framed else x
    guidance = {} if net.cfg else {"guidance": 3.0}
    given = base.extra_conds(
        cross_attn=cond.text, pooled_output=cond.pooled, noise=x, device=x.device, **guidance
    )
    conds = {key: one.process_cond(batch_size=len(x), area=None).cond for key, one in given.items()}
    with torch.no_grad():
        text = conds.pop("c_crossattn")
        options = dict(model.model_options.get("transformer_options", {}))
        denoised = base.apply_model(x, t, c_crossattn=text, transformer_options=options, **conds)
    v = (x - denoised) / t.view(-1, *[1] * (x.ndim - 1))
    return v[:, :, 0] if net.framed else v


@contextmanager
def exact_rope(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Hosts rotate in float32; finite differences need float64."""
    import comfy.ldm.flux.layers as layers

    rope = layers.rope
    with monkeypatch.context() as patch:
        patch.setattr(layers, "rope", lambda *args: rope(*args).double())
        yield


@by_name
def test_its_velocity_is_the_hosts(name: str, noted: Any) -> None:
    net = NETS[name]
    model, given = net.build(), net.inputs()
    with torch.inference_mode(), training_session(model, guidance=3.0) as backend:
        assert (backend.blocks, backend.joint_blocks) == (net.blocks, net.joint)
        assert backend.latents == LatentGrid(net.channels, net.pixels)
        assert (backend.cfg != 1) == net.cfg
        found = backend.velocity(*given)
    expected = sampled(model, net, *given)
    assert expected.std() > 0.1
    noted("velocity", distance(found, expected))
    assert distance(found, expected) < 1e-6


@by_name
@pytest.mark.parametrize("target", ["text_in_pooled", "widest"])
def test_its_gradients_are_finite_differences(
    name: str, target: str, monkeypatch: pytest.MonkeyPatch, noted: Any
) -> None:
    """The LoRA's and the text's, in float64."""
    net, dtype = NETS[name], torch.float64
    with exact_rope(monkeypatch), training_session(net.build(dtype)) as backend:
        target = list(backend.family.targets)[-1] if target == "widest" else target
        lora = trained_lora(backend, target, dtype)
        slices = backend.linear_slices(backend.target_names(target))
        text = net.inputs(dtype)[2].text.requires_grad_()
        with lora.attach(slices):
            wanted = [*lora.parameters(), text]
            loss = net.loss(backend, dtype, text)  # a last block's text leads nowhere
            grads = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
            assert any(grad.any() for grad in grads)
            generator = torch.Generator().manual_seed(3)
            for parameter, grad in zip(wanted, grads, strict=True):
                way = torch.randn(parameter.shape, generator=generator, dtype=dtype)
                values = []
                for sign in (1, -1):
                    parameter.data += sign * STEP * way
                    with torch.no_grad():
                        values.append(float(net.loss(backend, dtype, text)))
                    parameter.data -= sign * STEP * way
                slope = (values[0] - values[1]) / (2 * STEP)
                exact = float((grad * way).sum())
                noted("gradient", abs(slope - exact) / max(abs(exact), 1e-4))
                assert slope == pytest.approx(exact, rel=1e-5, abs=1e-9)


@by_name
@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointed", "kept"])
@pytest.mark.parametrize("inference", [True, False], ids=["inference weights", "plain weights"])
def test_how_it_is_held_changes_no_gradient(
    name: str, checkpointing: bool, inference: bool
) -> None:
    net = NETS[name]

    def gradients(checkpointing: bool, inference: bool) -> list[torch.Tensor]:
        model = net.build(inference=inference)
        with torch.inference_mode(), training_session(model, checkpointing=checkpointing) as on:
            lora = trained_lora(on, "text_in_pooled")
            with lora.attach(on.linear_slices(on.target_names("text_in_pooled"))):
                loss = net.loss(on)
                wanted = lora.parameters()
                grads = torch.autograd.grad(loss, wanted, allow_unused=True, materialize_grads=True)
                return list(grads)

    plain = gradients(checkpointing=False, inference=False)
    found = gradients(checkpointing, inference)
    assert all(torch.equal(one, other) for one, other in zip(found, plain, strict=True))


@by_name
def test_captured_mass_is_the_softmax(name: str, noted: Any) -> None:
    """Of every key, read at the tokens, as the host's own attention weighs them."""
    net = NETS[name]
    model, (x, t, cond) = net.build(), net.inputs()
    dense: list[torch.Tensor] = []
    text = net.padding + net.text_length
    start = text + -text % net.multiple  # of the image

    def watch(func: Any, q: Any, k: Any, v: Any, heads: int, *args: Any, **options: Any) -> Any:
        if not options.get("skip_reshape"):
            q, k = (y.reshape(*y.shape[:2], heads, -1).transpose(1, 2) for y in (q, k))
        if k.shape[2] >= start + SIZE_TOKENS:
            dense.append((q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1))
        return plain(func, q, k, v, heads, options)

    model.model_options["transformer_options"] = {"optimized_attention_override": watch}
    capture = AttentionCapture(TOKENS, tuple(range(net.blocks)))
    with torch.inference_mode(), training_session(model) as backend:
        backend.velocity(x, t, cond, capture=capture)
    assert len(dense) == len(capture.mass) == net.blocks
    for block, weights in enumerate(dense):
        image = weights[:, :, start : start + SIZE_TOKENS]
        for sample, tokens in enumerate(TOKENS):
            for column, token in enumerate(tokens):
                seen = image[sample, :, :, net.padding + token]
                expected = seen if token >= 0 else 0 * seen
                found = capture.mass[block][sample, :, :, column]
                noted("mass", (found - expected).abs().max())
                torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


SIZE_TOKENS = 6  # image tokens of every net's latent


def plain(func: Any, q: Any, k: Any, v: Any, heads: int, options: Any) -> Any:
    if not options.get("skip_reshape"):
        v = v.reshape(*v.shape[:2], heads, -1).transpose(1, 2)
    out = torch.nn.functional.scaled_dot_product_attention(q, k, v)
    return out if options.get("skip_output_reshape") else out.transpose(1, 2).flatten(2)


@by_name
def test_its_lora_is_what_core_and_apply_load(name: str, tmp_path: Path, noted: Any) -> None:
    """Trained adapters, core's own loader and Apply move the model to the same place."""
    net = NETS[name]
    model, given = net.build(), net.inputs()
    with torch.inference_mode(), training_session(model) as backend:
        lora = trained_lora(backend, "text_in_pooled")
        slices = backend.linear_slices(backend.target_names("text_in_pooled"))
        base = backend.velocity(*given)
        with lora.attach(slices), torch.no_grad():
            expected = backend.velocity(*given)
        state = {key: value.clone() for key, value in lora.state_dict().items()}
    assert (expected - base).norm() > 0.01 * base.norm()
    path = save_lora(tmp_path / "some.safetensors", state, {"concept": "star"})
    core, _ = comfy.sd.load_lora_for_models(
        model, None, comfy.utils.load_torch_file(str(path), safe_load=True), 1.0, 0
    )
    ours = apply_lora(model, state_of(path), 1.0, name="some")[0]
    for loader, patched in (("core", core), ("apply", ours)):
        with torch.inference_mode(), training_session(patched) as backend:
            found = backend.velocity(*given)
        patched.unpatch_model(torch.device("cpu"))
        noted(f"lora_{loader}", distance(found, expected))
        assert distance(found, expected) < 1e-5


@by_name
def test_a_lora_with_a_range_is_off_outside_of_it(name: str, tmp_path: Path) -> None:
    """Late in sampling it changes nothing, early it does."""
    net = NETS[name]
    model, (x, _, cond) = net.build(), net.inputs()
    with torch.inference_mode(), training_session(model) as backend:
        state = {
            k: v.clone() for k, v in trained_lora(backend, "text_in_pooled").state_dict().items()
        }
    path = save_lora(tmp_path / "some.safetensors", state, {"concept": "star"})
    ranged = apply_during(model, state_of(path), 1.0, start=0.0, end=0.5)
    for sigma, changes in ((0.95, True), (0.05, False)):
        t = torch.full((2,), sigma)
        with torch.no_grad():
            both = [sampled(each, net, x, t, cond) for each in (model, ranged)]
        assert torch.equal(*both) != changes


def state_of(path: Path) -> dict[str, torch.Tensor]:
    return prefixed(load_lora(path)[0])


@by_name
@pytest.mark.parametrize("stopped", [None, ValueError, KeyboardInterrupt])
def test_it_is_trained_and_given_back(name: str, stopped: type[BaseException] | None) -> None:
    net = NETS[name]
    model = net.build()
    x, _, cond = net.inputs(seed=7)
    noise = x[:, :, None] if net.framed else x
    before = snapshot(model, cond, noise)
    config = EraseConfig(
        steps=6,
        batch=2,
        keep_per_step=2,
        trajectories=2,
        trajectory_steps=3,
        learning_rate=1e-2,
        height=32,
        width=48,
        weights=LossWeights(esd=1.0, attention=1.0, keep=0.1),
        lora=LoraConfig(rank=2, targets="text_in_pooled"),
    )

    def on_step(report: Any) -> None:
        if stopped and report.step == 3:
            raise stopped

    generator = torch.Generator().manual_seed(0)
    with torch.inference_mode():
        try:
            with training_session(model, guidance=3.0) as backend:
                done = train_erasure(
                    backend, plan_of(net), config, generator=generator, on_step=on_step
                )
        except (ValueError, KeyboardInterrupt):
            assert stopped
        else:
            assert not stopped and done.history["attention"][-1] < done.history["attention"][0]
    assert_same(before, snapshot(model, cond, noise))
