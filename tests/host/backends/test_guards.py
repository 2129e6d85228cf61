"""Mutation: with any one guard taken away, training fails or its gradients are wrong.

Without these tests a guard could be lost unnoticed: some traps are silent, and which ones depends
on torch's version (its checkpointing came to notice inputs changed in place only later).
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import comfy.ldm.flux.math
import comfy.ldm.modules.attention
import comfy.model_management
import comfy.ops
import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy import attention, guards
from eraseanything_pack.nodes.host.session import training_session
from expected import reference_gradients, relative_error
from families.mutants import MUTANTS, nothing, without
from random_nets import trained_lora
from tiny_flux import build, gradients, inputs, slices_of

WRONG = 1e-3  # relative error from which a gradient counts as wrong; exact ones are below 1e-5


def outcome(model: Any, checkpointing: bool) -> str:
    """'exact', 'wrong', or the error's type: how a step of training went."""
    with torch.inference_mode():
        try:
            with training_session(model, checkpointing=checkpointing) as backend:
                lora = trained_lora(backend, "all_attention")
                found = gradients(backend, lora)
        except RuntimeError as error:
            return type(error).__name__
    with training_session(model) as backend:
        error = relative_error(found, reference_gradients(model, backend, lora))
    return "exact" if error < 1e-5 else "wrong" if error > WRONG else f"near ({error:.1e})"


# Those that this net needs on every host.
NAMES = ("frozen_linear", "norms", "copying_layer_norm", "own_copy", "outside_inference_mode")


@pytest.mark.parametrize("checkpointing", [True, False], ids=["checkpointed", "kept"])
def test_all_guards_together_are_exact(checkpointing: bool) -> None:
    assert outcome(build(), checkpointing) == "exact"


@pytest.mark.parametrize("name", NAMES)
def test_each_guard_is_needed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(*MUTANTS[name])
    found = outcome(build(), checkpointing=True)
    assert found == "wrong" or found.endswith("Error"), found


def test_layer_norm_copies_prevent_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "LAYER_GUARDS", without(guards.copying_layer_norm))
    assert outcome(build(inference=False), checkpointing=False) == "RuntimeError"


@pytest.mark.parametrize("layer", ["context_embedder", "x_embedder"])
def test_inference_inputs_can_be_trained_on(layer: str) -> None:
    """Adapters where text and latents enter: autograd must save what came in inference mode."""
    with torch.inference_mode():
        given = inputs()
    with training_session(build()) as backend:
        slices = backend.linear_slices([layer])
        lora = guards_lora(slices)
        with lora.attach(slices):
            backend.velocity(*given).sum().backward()
    assert all(each.grad is not None for each in lora.parameters())


def guards_lora(slices: Any) -> Any:
    from eraseanything_pack.erase_engine.lora.adapters import LoraSet

    return LoraSet(slices, rank=2, generator=torch.Generator().manual_seed(0))


def test_blocks_need_their_own_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """An override that looks at the block's number must see the same one in backward."""

    def override(func: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        options = kwargs["transformer_options"]
        factor = 1 + options["block_index"] + (options["block_type"] == "double")
        return func(*args, **kwargs) * factor

    kept, recomputed = (_with_override(override, checkpointing=each) for each in (False, True))
    assert relative_error(recomputed, kept) < 1e-5
    monkeypatch.setattr(attention, "own_options", lambda options, kind, index: options.copy())
    assert relative_error(_with_override(override, checkpointing=True), kept) > WRONG


def _with_override(override: Any, checkpointing: bool) -> dict[str, torch.Tensor]:
    model = build()
    model.model_options["transformer_options"]["optimized_attention_override"] = override
    with training_session(model, checkpointing=checkpointing) as backend:
        return gradients(backend, trained_lora(backend))


def test_attention_must_not_depend_on_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """The host's sub-quadratic attention chunks by free memory, which is another in backward."""
    monkeypatch.setattr(
        comfy.ldm.flux.math,
        "optimized_attention",
        comfy.ldm.modules.attention.attention_sub_quad,
    )
    free = iter(range(10**6))
    monkeypatch.setattr(
        comfy.model_management,
        "get_free_memory",
        lambda *args, **kwargs: (1e12, 1e12) if next(free) < 4 else (1.0, 1.0),
    )
    assert outcome(build(), checkpointing=True) == "exact"
    hosts = lambda earlier: lambda func, *args, **kwargs: func(*args, **kwargs)  # noqa: E731
    monkeypatch.setattr(
        "eraseanything_pack.erase_engine.backends.comfy.model.training_attention", hosts
    )
    assert outcome(build(), checkpointing=True) != "exact"


def test_training_must_be_declared_where_the_host_asks_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Without `in_training`, as on 0.3.75, RoPE always has a gradient."""
    monkeypatch.setattr(guards, "declared_training", nothing)
    found = outcome(build(), checkpointing=True)
    if hasattr(comfy.model_management, "in_training"):
        assert found == "wrong" or found.endswith("Error"), found
    else:
        assert found == "exact"


@pytest.mark.parametrize("error", [None, KeyError("any")], ids=["ends", "fails"])
def test_a_host_that_asks_is_told_for_as_long_as_a_session(
    error: Exception | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    host = comfy.model_management
    monkeypatch.setattr(host, "in_training", False, raising=False)
    with suppress(KeyError), training_session(build()):
        assert getattr(host, "in_training") is True  # noqa: B009
        if error:
            raise error
    assert getattr(host, "in_training") is False  # noqa: B009


def test_each_weight_that_is_cast_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forward and backward: the host keeps what is not, and memory runs out step by step."""
    out: list[int] = []
    cast, uncast = comfy.ops.cast_bias_weight, comfy.ops.uncast_bias_weight

    def taken(*args: Any, **kwargs: Any) -> Any:
        found = cast(*args, **kwargs)
        out.extend([1] * bool(kwargs.get("offloadable")))
        return found

    def given_back(*args: Any, **kwargs: Any) -> None:
        out.pop()
        uncast(*args, **kwargs)

    monkeypatch.setattr(comfy.ops, "cast_bias_weight", taken)
    monkeypatch.setattr(comfy.ops, "uncast_bias_weight", given_back)
    assert outcome(build(), checkpointing=True) == "exact"
    assert out == []


def test_an_override_without_a_gradient_is_named() -> None:
    def override(func: Any, *args: Any, **kwargs: Any) -> torch.Tensor:
        return func(*args, **kwargs).detach()

    with pytest.raises(ValueError, match="Got an attention override without a gradient"):
        _with_override(override, checkpointing=True)


# --- weights of other kinds --------------------------------------------------------------------


def test_float8_weights() -> None:
    """The gradient is that of the weights as they are cast: float8 read as float32."""
    model = build(torch.float8_e4m3fn, compute=torch.float32)
    assert model.model.diffusion_model.img_in.weight.dtype == torch.float8_e4m3fn
    for checkpointing in (True, False):
        assert outcome(model, checkpointing) == "exact"


def test_patches_that_are_applied_at_the_cast() -> None:
    """Low-VRAM loading patches a weight when it is cast: forward and backward see the patch."""
    patched, plain = build(), build(inference=False)
    for layer in _some_layers(plain):
        layer.weight.data *= 1.5
        layer.bias.data *= 0.5
    with training_session(patched) as backend:
        for layer in _some_layers(patched):
            layer.weight_function = [lambda weight: weight * 1.5]
            layer.bias_function = [lambda bias: bias * 0.5]
        found = gradients(backend, trained_lora(backend))
    with training_session(plain) as backend:
        assert relative_error(found, gradients(backend, trained_lora(backend))) < 1e-5


def _some_layers(model: Any) -> list[Any]:
    blocks = model.model.diffusion_model.double_blocks
    return [layer for block in blocks for layer in (block.img_attn.proj, block.txt_mlp[0])]


def test_layers_with_their_own_cast() -> None:
    """GGUF layers keep packed bytes and bring `cast_bias_weight`; nothing else may read them."""

    class Packed(comfy.ops.manual_cast.Linear):
        def pack(self) -> None:
            self.packed, self.kept_bias = self.weight.detach() / 4, self.bias
            self.weight = torch.nn.Parameter(torch.zeros(1, 1), requires_grad=False)

        def cast_bias_weight(self, x: torch.Tensor) -> Any:
            return (self.packed * 4).to(x), self.kept_bias.to(x)

        def forward_comfy_cast_weights(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.linear(x, *self.cast_bias_weight(x))

    model = build(inference=False)
    plain = build(inference=False)
    for block in model.model.diffusion_model.double_blocks:
        block.img_mlp[0].__class__ = Packed
        block.img_mlp[0].pack()
    results = []
    for patcher in (model, plain):
        with training_session(patcher) as backend:
            results.append(gradients(backend, trained_lora(backend)))
    assert relative_error(*results) < 1e-5


def test_a_replaced_forward_is_differentiated() -> None:
    """Another node's affine forward (a bypass LoRA, say) is part of the gradient."""
    model, plain = build(inference=False), build(inference=False)
    layer = model.model.diffusion_model.single_blocks[0].linear2
    own = layer.forward
    layer.forward = lambda x: own(x) * 2
    other = plain.model.diffusion_model.single_blocks[0].linear2
    other.weight.data *= 2
    other.bias.data *= 2
    results = []
    for patcher in (model, plain):
        with training_session(patcher) as backend:
            results.append(gradients(backend, trained_lora(backend)))
    assert relative_error(*results) < 1e-5


def test_bfloat16_gradient_is_near_the_float32_one() -> None:
    # without guidance: the host multiplies it by 1000 in bfloat16, which is another guidance
    with training_session(build(torch.bfloat16, guidance_embed=False)) as backend:
        found = gradients(backend, trained_lora(backend))
    with training_session(build(guidance_embed=False)) as backend:
        expected = gradients(backend, trained_lora(backend))
    assert all(grad.dtype == torch.float32 for grad in found.values())
    assert relative_error(found, expected) < 0.15


def test_nothing_of_a_linear_is_saved() -> None:
    """With blocks kept, no weight is among what autograd holds."""
    model = build(inference=False)
    held: list[torch.Size] = []
    weights = {w.shape for w in model.model.parameters() if w.ndim == 2}
    pack = torch.autograd.graph.saved_tensors_hooks(
        lambda t: held.append(t.shape) or t, lambda t: t
    )
    with training_session(model, checkpointing=False) as backend:
        lora = trained_lora(backend)
        with pack, lora.attach(slices_of(backend, lora)):
            backend.velocity(*inputs())
    assert held and not weights & {shape for shape in held if 3 not in shape}
