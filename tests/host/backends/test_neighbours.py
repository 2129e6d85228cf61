"""Other packs that patch the model for everybody: named, with what to do, and nothing is kept."""

from __future__ import annotations

from pathlib import Path
from types import MethodType
from typing import Any

import comfy.ldm.flux.math
import comfy.patcher_extension as extension
import graph
import pytest
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import model_description
from eraseanything_pack.erase_engine.training import run
from eraseanything_pack.nodes.host.session import training_session
from eraseanything_pack.nodes.report.prompt_list import DrawPromptList
from eraseanything_pack.nodes.report.report import ErasureReport
from eraseanything_pack.tinyworld.models import build_vae, load_weights
from snapshot import assert_same, snapshot
from tiny_flux import NEWER_HOST, build, capture, inputs


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


# --- nodes on one MODEL --------------------------------------------------------------------------


def skips(model: Any) -> None:
    """As skip-layer nodes do it: the block is not called."""
    model.set_model_patch_replace(lambda given, more: given, "dit", "double_block", 1)


def without_gradient(model: Any) -> None:
    """As caches wrap the net."""

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        with torch.no_grad():
            return executor(*args, **kwargs)

    add_wrapper(model, extension.WrappersMP.DIFFUSION_MODEL, wrapper)


def without_gradient_of_attention(model: Any) -> None:
    def override(func: Any, *args: Any, **kwargs: Any) -> Any:
        return func(*(each.detach() for each in args[:3]), *args[3:], **kwargs)

    model.model_options["transformer_options"]["optimized_attention_override"] = override


def of_an_old_signature(model: Any) -> None:
    """As packs for older hosts write it: the host gives more than it takes."""

    def override(func: Any, q: Any, k: Any, v: Any, heads: int, mask: Any = None) -> Any:
        return func(q, k, v, heads, mask)

    model.model_options["transformer_options"]["optimized_attention_override"] = override


def of_another_host(model: Any) -> None:
    """What attention gives in other programs: the output and the weights."""

    def override(func: Any, *args: Any, **kwargs: Any) -> Any:
        return func(*args, **kwargs), None

    model.model_options["transformer_options"]["optimized_attention_override"] = override


def forgets_the_text(model: Any) -> None:
    """As a node for a net whose blocks give the image alone."""
    model.set_model_patch_replace(
        lambda given, more: {"img": more["original_block"](given)["img"]}, "dit", "double_block", 0
    )


def gives_no_velocity(model: Any) -> None:
    add_wrapper(model, extension.WrappersMP.APPLY_MODEL, lambda executor, *args, **kw: None)


def hooked_in_forward_alone(model: Any) -> None:
    """Its hooks are gone when blocks are computed again in backward."""
    net = model.model.diffusion_model

    def wrapper(executor: Any, *args: Any, **kwargs: Any) -> Any:
        hook = net.double_blocks[0].img_attn.proj.register_forward_hook(
            lambda module, given, out: out.sin() * out.cos()
        )
        try:
            return executor(*args, **kwargs)
        finally:
            hook.remove()

    add_wrapper(model, extension.WrappersMP.APPLY_MODEL, wrapper)


def add_wrapper(model: Any, kind: Any, wrapper: Any) -> None:
    options = model.model_options
    extension.add_wrapper_with_key(kind, "other", wrapper, options, is_model_options=True)


IN_THE_WAY = {
    skips: r"another node leaves out block 1, expected .* Take that node",
    without_gradient: r"without a gradient \(.*Take nodes off it that wrap",
    without_gradient_of_attention: r"without a gradient.*Take that node off the model",
    of_an_old_signature: r"another node's code fails \(.*unexpected keyword.*Take",
    of_another_host: r"another node's code fails \(.*tuple.*Take",
    forgets_the_text: r"another node's code fails \(KeyError: 'txt'\).*Take",
    gives_no_velocity: r"another node's code fails \(AttributeError: 'NoneType'.*Take",
    hooked_in_forward_alone: r"without a gradient \(.*Take nodes off it that wrap",
}


@pytest.mark.parametrize("change", IN_THE_WAY, ids=lambda change: change.__name__)
def test_a_node_in_the_way_is_named_before_any_work(
    loras: Path, monkeypatch: pytest.MonkeyPatch, change: Any
) -> None:
    model = graph.flux()
    before = graph.picture(model)
    patched = model.clone()
    change(patched)
    monkeypatch.setattr(run, "train_erasure", None)
    with pytest.raises(ValueError, match=IN_THE_WAY[change]) as error:
        graph.erase(patched)
    assert len(str(error.value)) < 600
    assert torch.equal(graph.picture(model), before)


def test_a_net_that_another_pack_has_put_there_is_named() -> None:
    """As nunchaku's loader does: the host's model around a net of another make."""
    model = graph.flux().clone()
    other = torch.nn.Module()
    own, model.model.diffusion_model = model.model.diffusion_model, other
    try:
        for refused in (graph.erase, graph.look):
            with pytest.raises(ValueError, match=r"Got a net that another pack .*\(Module.*Load "):
                refused(model)
        assert model_description(model) == "Flux"
    finally:
        model.model.diffusion_model = own


@pytest.mark.skipif(bool(NEWER_HOST), reason="the host puts zeros in their place")
@pytest.mark.parametrize("work", [graph.erase, graph.look], ids=["erase", "look"])
def test_weights_that_were_never_read_are_named(loras: Path, work: Any) -> None:
    """As a loader that ran short leaves them: on torch's device `meta`."""
    model = graph.flux()
    model.model.diffusion_model.to("meta")
    with pytest.raises(ValueError, match=r"Got a model whose weights can't be moved \(.*Load it"):
        work(model)


def report(model: Any) -> None:
    pictures = {"erase_prompts": "star", "keep_prompts": "", "seed": 0}
    ErasureReport.execute(model, model, graph.clip(), vae(), **pictures, **SMALL)


def prompt_list(model: Any) -> None:
    DrawPromptList.execute(
        model, graph.clip(), vae(), "prompt\nstar\n", "old", 1, guidance=3.5, **SMALL
    )


SMALL = {"steps": 1, "resolution": 64}


def vae() -> Any:
    return build_vae(load_weights("vae"))


DRAW = [graph.look, report, prompt_list]


@pytest.mark.parametrize("draw", DRAW, ids=lambda draw: draw.__name__)
@pytest.mark.parametrize("change", [of_an_old_signature, forgets_the_text, gives_no_velocity])
@torch.inference_mode()
def test_who_draws_names_code_for_another_host(loras: Path, change: Any, draw: Any) -> None:
    patched = graph.flux().clone()
    change(patched)
    with pytest.raises(ValueError, match=IN_THE_WAY[change]):
        draw(patched)


@pytest.mark.parametrize("work", [graph.erase, *DRAW], ids=lambda work: work.__name__)
@torch.inference_mode()
def test_numbers_that_are_not_finite_are_not_the_learning_rates_fault(
    loras: Path, tmp_path: Path, work: Any
) -> None:
    """As of a damaged LoRA on the MODEL, or of float16 that overflows."""
    model = graph.flux()
    key = "diffusion_model.double_blocks.0.txt_attn.qkv.weight"
    damaged = torch.full_like(model.model.state_dict()[key], torch.nan)
    model.add_patches({key: ("diff", (damaged,))})
    with pytest.raises(ValueError, match=r"numbers that are not finite.*this model.*LoRA.*float16"):
        work(model)
    assert not [*tmp_path.rglob("*.png"), *tmp_path.rglob("*.safetensors")]


def test_a_preview_names_a_block_that_is_left_out(loras: Path) -> None:
    patched = graph.flux().clone()
    skips(patched)
    with pytest.raises(ValueError, match="another node leaves out block 1"):
        graph.look(patched)


def test_a_weight_that_no_lora_can_be_put_on_is_named(loras: Path) -> None:
    model = graph.flux()
    layer = model.model.diffusion_model.txt_in
    layer.weight = torch.nn.Parameter(layer.weight.reshape(-1, 1), requires_grad=False)
    with pytest.raises(ValueError, match=r"layer context_embedder with a packed weight .*Load the"):
        graph.erase(model)
