"""Nets of every family in diffusers, with the weights of the host's own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.utils
import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.loaders import single_file_utils
from diffusers.models.embeddings import get_timestep_embedding
from eraseanything_pack.erase_engine.backends.diffusers.files import quiet
from eraseanything_pack.erase_engine.backends.diffusers.model import DiffusersFlowModel
from families.nets import NETS, QWEN, Z_IMAGE, Net
from tiny_diffusers import weight_at
from torch.nn.functional import pad


def converted(name: str) -> Callable[[Any], Mapping[str, torch.Tensor]]:
    """By what diffusers reads single files with."""
    convert = getattr(single_file_utils, f"convert_{name}_transformer_checkpoint_to_diffusers")

    def weights(net: Any) -> Mapping[str, torch.Tensor]:
        return convert({key: weight.clone() for key, weight in net.state_dict().items()})

    return weights


def by_map(
    published: Mapping[str, torch.Tensor], names: Mapping[str, Any]
) -> dict[str, torch.Tensor]:
    """What there is of the layers that a map of the host names."""
    return {
        name: weight_at(published, place)
        for name, place in names.items()
        if (place if isinstance(place, str) else place[0]) in published
    }


def chroma_weights(net: Any) -> Mapping[str, torch.Tensor]:
    """By the host's map of FLUX.1's layers; what modulates them is Chroma's own."""
    sizes = {"depth": len(net.double_blocks), "depth_single_blocks": len(net.single_blocks)}
    names = comfy.utils.flux_to_diffusers({**sizes, "hidden_size": net.hidden_size})
    changes = {"in_layer": "linear_1", "out_layer": "linear_2", ".scale": ".weight"}
    published = net.state_dict()
    found = {
        name: weight  # hosts name FLUX.2's layers as well
        for name, weight in by_map(published, names).items()
        if ".linear_" not in name and "to_qkv_mlp" not in name and ".attn.to_out.weight" not in name
    }
    for name, weight in published.items():
        if name.startswith("distilled_guidance_layer."):
            for old, new in changes.items():
                name = name.replace(old, new)
            found[name] = weight
    return found


def chroma_ends_as_the_whole_one(made: Any) -> None:
    """Its last layer's two modulations have the places that they have in the whole model."""
    table = made.time_text_embed.mod_proj
    last = torch.arange(CHROMA_MODULATIONS - 2, CHROMA_MODULATIONS) * 1000
    table[-2:] = get_timestep_embedding(
        last, table.shape[1], flip_sin_to_cos=True, downscale_freq_shift=0
    )


def z_image_weights(net: Any) -> Mapping[str, torch.Tensor]:
    """Its time is embedded by as many numbers as diffusers has; the rest are zeros."""
    found = dict(converted("z_image")(net))
    missing = T_EMBEDDER - len(found["t_embedder.mlp.0.bias"])
    for name, sides in (("0.weight", (0, 0, 0)), ("0.bias", (0,)), ("2.weight", (0,))):
        key = f"t_embedder.mlp.{name}"
        found[key] = pad(found[key], (*sides, missing))
    return found


@dataclass(frozen=True)
class Twin:
    """How diffusers builds a net of the list, and whose weights its layers have."""

    net: Net
    kind: str  # of diffusers
    sizes: Callable[[Any], Mapping[str, Any]]  # of the host's net
    weights: Callable[[Any], Mapping[str, torch.Tensor]]  # by diffusers' names
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    mended: Callable[[Any], None] = lambda made: None  # what a small net lacks of a large one

    def convert(self, model: Any) -> Any:
        """A ComfyUI MODEL's weights in a diffusers model."""
        net = model.model.diffusion_model
        with quiet():
            made = getattr(diffusers, self.kind)(**self.sizes(net))
        made.load_state_dict(self.weights(net))
        self.mended(made)
        return made.eval()

    def backend(self, model: Any, guidance: float = 3.0) -> DiffusersFlowModel:
        scheduler = FlowMatchEulerDiscreteScheduler(**self.scheduler)
        return DiffusersFlowModel(self.convert(model), scheduler, guidance=guidance)


def sd3(name: str) -> Twin:
    def sizes(net: Any) -> dict[str, Any]:
        given = NETS[name].sizes
        return {
            "sample_size": 8,
            "num_layers": given["depth"],
            "num_attention_heads": net.num_heads,
            "joint_attention_dim": net.context_embedder.in_features,
            "caption_projection_dim": net.hidden_size,
            "pooled_projection_dim": net.y_embedder.mlp[0].in_features,
            "pos_embed_max_size": given["pos_embed_max_size"],
            "dual_attention_layers": tuple(given.get("x_block_self_attn_layers", ())),
            "qk_norm": "rms_norm" if "qk_norm" in given else None,
        }

    def weights(net: Any) -> Mapping[str, torch.Tensor]:
        names = comfy.utils.mmdit_to_diffusers(dict(NETS[name].sizes))
        return by_map(net.state_dict(), names)

    return Twin(NETS[name], "SD3Transformer2DModel", sizes, weights, {"shift": 3.0})


def flux_sizes(net: Any) -> dict[str, Any]:
    """Those that FLUX.1's kind of nets have in common."""
    return {
        "num_layers": len(net.double_blocks),
        "num_single_layers": len(net.single_blocks),
        "attention_head_dim": net.hidden_size // net.num_heads,
        "num_attention_heads": net.num_heads,
        "joint_attention_dim": net.txt_in.in_features,
        "axes_dims_rope": tuple(net.params.axes_dim),
    }


def chroma_sizes(net: Any) -> dict[str, Any]:
    return {
        **flux_sizes(net),
        "in_channels": net.img_in.in_features,
        "approximator_num_channels": net.distilled_guidance_layer.in_proj.in_features,
        "approximator_hidden_dim": net.distilled_guidance_layer.in_proj.out_features,
        "approximator_layers": len(net.distilled_guidance_layer.layers),
    }


def flux2_sizes(net: Any) -> dict[str, Any]:
    return {
        **flux_sizes(net),
        "in_channels": net.params.in_channels,
        "mlp_ratio": net.params.mlp_ratio,
        "guidance_embeds": net.params.guidance_embed,
    }


def qwen_sizes(net: Any) -> dict[str, Any]:
    names = ("num_layers", "attention_head_dim", "num_attention_heads", "axes_dims_rope")
    return {**{name: QWEN[name] for name in names}, "joint_attention_dim": net.txt_in.in_features}


def z_image_sizes(net: Any) -> dict[str, Any]:
    names = ("dim", "n_layers", "n_refiner_layers", "n_heads", "axes_dims", "axes_lens")
    found = {name: Z_IMAGE_SIZES[name] for name in names}
    text = net.cap_embedder[1].in_features
    return {**found, "n_kv_heads": found["n_heads"], "cap_feat_dim": text}


T_EMBEDDER = 1024
CHROMA_MODULATIONS = 344  # which the host takes for granted
# What diffusers takes for granted.
Z_IMAGE_SIZES = {
    **Z_IMAGE,
    "pad_tokens_multiple": 32,
    "multiple_of": 1,
}
FLUX_TIMES = {"use_dynamic_shifting": True, "max_shift": 1.15}
TWINS = {
    **{name: sd3(name) for name in ("sd3", "sd3.5-large", "sd3.5-medium")},
    "chroma": Twin(
        NETS["chroma"],
        "ChromaTransformer2DModel",
        chroma_sizes,
        chroma_weights,
        FLUX_TIMES,
        chroma_ends_as_the_whole_one,
    ),
    **{
        name: Twin(
            NETS[name], "Flux2Transformer2DModel", flux2_sizes, converted("flux2"), FLUX_TIMES
        )
        for name in ("flux2-dev", "flux2-klein")
    },
    # An odd number of patches stands elsewhere in the two programs.
    "qwen-image": Twin(
        replace(NETS["qwen-image"], size=(32, 64)),
        "QwenImageTransformer2DModel",
        qwen_sizes,
        lambda net: net.state_dict(),
        FLUX_TIMES,
    ),
    "z-image": Twin(
        replace(NETS["z-image"], sizes=Z_IMAGE_SIZES, multiple=32),
        "ZImageTransformer2DModel",
        z_image_sizes,
        z_image_weights,
        {"shift": 3.0},
    ),
}
