"""LoRA files of other programs: their names are read as ours, or refused by name."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import save_file

from erase_engine.lora.dialects import PREFIXES
from erase_engine.lora.file import load_lora, prefixed, read_lora


@pytest.mark.parametrize("parts", [("lora_A.default", "lora_B.default"), ("lora_down", "lora_up")])
@pytest.mark.parametrize("prefix", [*PREFIXES, ""])
def test_the_field_s_names_are_read(tmp_path, state, prefix, parts):
    names = dict(zip(("lora_A", "lora_B"), parts, strict=True))
    extra = {
        f"text_encoder.text_model.layers.0.q_proj.{part}.weight": torch.ones(2, 2) for part in parts
    }
    theirs = {
        prefix
        + key.replace(key.split(".")[-2], names.get(key.split(".")[-2], key.split(".")[-2])): value
        for key, value in state.items()
    }
    save_file(theirs | extra, tmp_path / "a.safetensors")
    found = read_lora(tmp_path / "a.safetensors")
    assert found.left_out == 2 and found.state.keys() == state.keys()
    assert all(torch.equal(found.state[key], state[key]) for key in state)


def test_one_layer_under_two_names_is_named(tmp_path, state):
    both = {
        prefix + key: value.clone()
        for key, value in state.items()
        for prefix in ("", "transformer.")
    }
    save_file(both, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=r"two tensors for one layer under different names"):
        load_lora(tmp_path / "a.safetensors")


@pytest.mark.parametrize(
    ("key", "kind"),
    [
        ("lora_unet_double_blocks_0_img_mlp_0.lokr_w1", "LoKr"),
        ("transformer.a.hada_w1_a", "LoHa"),
        ("transformer.a.oft_R.weight", "OFT"),
        ("oft_unet_double_blocks_0.oft_blocks", "OFT"),
        ("transformer.a.dora_scale", "DoRA"),
        ("transformer.a.lora_magnitude_vector.weight", "DoRA"),
    ],
)
def test_other_methods_are_refused_by_name(tmp_path, state, key, kind):
    mine = {f"transformer.{each}": value for each, value in state.items()}
    save_file(mine | {key: torch.ones(2)}, tmp_path / "a.safetensors")
    with pytest.raises(ValueError, match=rf"Got a\.safetensors, which is a {kind} file, expected"):
        load_lora(tmp_path / "a.safetensors")


@pytest.mark.parametrize("layer", ["layers.0.attention.to_q", "context_refiner.0.attention.to_out"])
def test_z_image_s_layers_keep_the_prefix_that_all_hosts_read(tmp_path, layer):
    """Those that others train as well: ComfyUI 0.3.75 knows none of them behind `transformer.`."""
    names = [f"diffusion_model.{layer}.lora_{part}.weight" for part in "AB"]
    save_file({name: torch.ones(2, 2) for name in names}, tmp_path / "a.safetensors")
    assert prefixed(load_lora(tmp_path / "a.safetensors")[0]).keys() == set(names)
