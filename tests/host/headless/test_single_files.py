"""A file with the published layout is the model that a diffusers folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.ldm.flux.model
import comfy.ops
import pytest
import torch
from diffusers import FluxTransformer2DModel
from eraseanything_pack.benchmarks.full_width import build
from eraseanything_pack.erase_engine.backends.diffusers import files as diffusers_files
from eraseanything_pack.erase_engine.backends.diffusers.files import ModelFiles, published_weights
from eraseanything_pack.erase_engine.families.flux import FLUX as FAMILY
from safetensors.torch import save_file
from tiny_diffusers import convert, save_text_encoders
from tiny_flux import CONFIG

Weights = dict[str, torch.Tensor]
# FLUX.1's own sizes; a tensor on the meta device has no values and takes no memory.
FLUX: dict[str, Any] = {
    **CONFIG,
    "vec_in_dim": 768,
    "context_in_dim": 4096,
    "hidden_size": 3072,
    "num_heads": 24,
    "depth": 19,
    "depth_single_blocks": 38,
    "axes_dim": [16, 56, 56],
}


CONVERTER = FAMILY.diffusers.files.published.converter


@pytest.fixture(scope="module")
def model() -> Any:
    """Of FLUX.1's own width, which diffusers' converter takes for granted."""
    return build()


def weights(model: Any) -> Weights:
    return dict(model.model.diffusion_model.state_dict())


def test_weights_are_those_of_comfyuis_table(model: Any) -> None:
    expected = convert(model).state_dict()
    found = published_weights(weights(model), CONVERTER)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key].to(found[key])) for key in expected)


def test_whole_checkpoints_give_their_transformer(model: Any) -> None:
    whole = {f"model.diffusion_model.{key}": value for key, value in weights(model).items()}
    whole |= {"vae.decoder.bias": torch.zeros(1), "text_encoders.clip_l.bias": torch.zeros(1)}
    expected = published_weights(weights(model), CONVERTER)
    assert published_weights(whole, CONVERTER).keys() == expected.keys()


def test_missing_and_foreign_weights_are_named(model: Any) -> None:
    given = weights(model)
    del given["double_blocks.0.img_attn.proj.weight"]
    with pytest.raises(ValueError, match=r"without \['double_blocks\.0\.img_attn\.proj\.weight'"):
        published_weights(given, CONVERTER)
    given = weights(model) | {"img_in.scale_weight": torch.ones(1)}
    with pytest.raises(ValueError, match=r"with \['img_in\.scale_weight'\]") as error:
        published_weights(given, CONVERTER)
    assert "of other models give the diffusers folder" in str(error.value)
    assert "Chroma" not in str(error.value)  # whose single files the command does not read


@pytest.mark.parametrize("guidance_embed", [True, False], ids=["dev", "schnell"])
def test_a_file_of_flux_itself_needs_no_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guidance_embed: bool
) -> None:
    config = {**FLUX, "guidance_embed": guidance_embed}
    if hasattr(comfy.ldm.flux.model, "invert_slices"):  # newer hosts
        config["txt_ids_dims"] = []
    ops = comfy.ops.disable_weight_init
    flux = comfy.ldm.flux.model.Flux(device="meta", operations=ops, **config)
    monkeypatch.setattr(diffusers_files, "load_file", lambda path: dict(flux.state_dict()))
    save_text_encoders(tmp_path)
    save_file(
        {FAMILY.diffusers.files.published.marker: torch.zeros(1)}, tmp_path / "flux.safetensors"
    )
    files = ModelFiles(tmp_path / "flux.safetensors")
    net = files.transformer(torch.device("meta"), torch.bfloat16)
    assert isinstance(net, FluxTransformer2DModel)
    assert net.config.guidance_embeds == guidance_embed
    assert files.scheduler(net).config.use_dynamic_shifting == guidance_embed
    billions = sum(weight.numel() for weight in net.parameters()) / 1e9
    assert billions == pytest.approx(11.9, abs=0.05)
    assert {weight.dtype for weight in net.parameters()} == {torch.bfloat16}
