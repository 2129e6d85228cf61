"""Weights of the published layout under diffusers' names, without diffusers' help."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import comfy.ldm.flux.model
import comfy.ops
import pytest
import torch
from diffusers import FluxTransformer2DModel
from eraseanything_pack.erase_engine.backends.diffusers import files as diffusers_files
from eraseanything_pack.erase_engine.backends.diffusers.files import ModelFiles
from eraseanything_pack.erase_engine.backends.flux_names import to_diffusers
from tiny_diffusers import convert, save_text_encoders
from tiny_flux import CONFIG, build

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


def weights(model: Any = None) -> Weights:
    return dict((model or build()).model.diffusion_model.state_dict())


@pytest.mark.parametrize("guidance_embed", [True, False], ids=["dev", "schnell"])
def test_names_and_rows_are_those_of_comfyuis_table(guidance_embed: bool) -> None:
    model = build(guidance_embed=guidance_embed)
    expected = convert(model).state_dict()
    found = to_diffusers(weights(model))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_whole_checkpoints_give_their_transformer() -> None:
    whole = {f"model.diffusion_model.{key}": value for key, value in weights().items()}
    whole |= {"vae.decoder.bias": torch.zeros(1), "text_encoders.clip_l.bias": torch.zeros(1)}
    assert to_diffusers(whole).keys() == to_diffusers(weights()).keys()


def test_missing_and_foreign_weights_are_named() -> None:
    given = weights()
    del given["double_blocks.1.img_attn.qkv.weight"]
    given["img_in.scale_weight"] = torch.ones(1)
    with pytest.raises(
        ValueError,
        match=r"with \['img_in\.scale_weight'\] and without \['double_blocks\.1\.img_attn\.qkv",
    ):
        to_diffusers(given)


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
    (tmp_path / "flux.safetensors").touch()
    files = ModelFiles(tmp_path / "flux.safetensors")
    net = files.transformer(torch.device("meta"), torch.bfloat16)
    assert isinstance(net, FluxTransformer2DModel)
    assert net.config.guidance_embeds == guidance_embed
    assert files.scheduler(net).config.use_dynamic_shifting == guidance_embed
    billions = sum(weight.numel() for weight in net.parameters()) / 1e9
    assert billions == pytest.approx(11.9, abs=0.05)
    assert {weight.dtype for weight in net.parameters()} == {torch.bfloat16}
