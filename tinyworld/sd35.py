"""The tiny SD3.5 as ComfyUI objects: its MODEL and CLIP; pictures and weights of text are the tiny
Flux's.

The net is ComfyUI's own MMDiT with the parts of SD3.5 medium: norms of q and k, and a second
attention of the picture alone in its first block. The text encoder stands behind the real three
tokenizers; one set of weights serves CLIP-L and CLIP-G, which differ in their padding.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor

from .models import CLIP_CONFIG, T5_CONFIG, TEXT_TOKENS, patcher_of

CLIP_TOKENS = 32  # of a chunk; CLIP's own has 77, more than all tokens of a tiny picture
GRID = 16  # sides of the largest picture in tokens: the table of places has as many
THETA = 50.0  # of that table: as in the tiny Flux, places on a small grid differ more with it
SIZES: dict[str, Any] = {
    "in_channels": 16,
    "out_channels": 16,
    "patch_size": 2,
    "depth": 3,  # x 64 is the width, and the number of heads
    "num_blocks": 4,
    "input_size": None,
    "num_patches": GRID * GRID,
    "pos_embed_max_size": GRID,
    "pos_embed_scaling_factor": None,
    "adm_in_channels": 2 * CLIP_CONFIG["hidden_size"],
    "qk_norm": "rms",
    "x_block_self_attn_layers": [0],
    "context_embedder_config": {
        "target": "torch.nn.Linear",
        "params": {"in_features": T5_CONFIG["d_model"], "out_features": 3 * 64},
    },
}


def build_sd35(state: dict[str, Tensor] | None = None) -> Any:
    """A ModelPatcher around ComfyUI's SD3 at tiny size; random weights where `state` is None."""
    import comfy.supported_models

    return patcher_of(comfy.supported_models.SD3(dict(SIZES)), state)


def places(width: int) -> Tensor:
    """(1, GRID * GRID, width): sines and cosines of each row and column, from GRID / 2 in the
    middle.
    """
    share = torch.arange(width // 4) / (width // 4)
    angles = (torch.arange(GRID) - GRID / 2)[:, None] / THETA**share  # (GRID, width / 4)
    each = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = each[:, None].expand(-1, GRID, -1), each[None].expand(GRID, -1, -1)
    return torch.cat([columns, rows], dim=2).reshape(1, GRID * GRID, width)


Encoded = tuple[Tensor, Tensor]  # features of tokens (B, T, D), pooled vectors (B, P)


def joined(low: Encoded, big: Encoded, t5: Encoded) -> Encoded:
    """The net's text and pooled vector: CLIP-L beside CLIP-G, as long as both are, then T5."""
    shorter = min(low[0].shape[1], big[0].shape[1])
    clip = torch.cat([low[0][:, :shorter], big[0][:, :shorter]], dim=-1)
    return torch.cat([clip, t5[0]], dim=-2), torch.cat([low[1], big[1]], dim=-1)


def build_clip(state: dict[str, Tensor] | None = None) -> Any:
    """ComfyUI's SD3 CLIP: its real tokenizers before tiny encoders as wide as the net takes.

    The host widens CLIP's features to those of T5-XXL; here both are equally wide by themselves.
    """
    import comfy.sd
    from comfy.text_encoders import sd3_clip

    class Encoders(sd3_clip.SD3ClipModel):
        def encode_token_weights(self, tokens: dict[str, Any]) -> tuple[Tensor, Tensor, dict]:
            parts = ((self.clip_l, "l"), (self.clip_g, "g"), (self.t5xxl, "t5xxl"))
            found = (encoder.encode_token_weights(tokens[key])[:2] for encoder, key in parts)
            return *joined(*found), {}

    class Target:
        params: ClassVar[dict[str, Any]] = {}
        clip = Encoders
        tokenizer = sd3_clip.SD3Tokenizer

    # The host reads tokens before the last layer: one more, which does nothing.
    layers = CLIP_CONFIG["num_hidden_layers"]
    sizes = {**CLIP_CONFIG, "num_hidden_layers": layers + 1}
    clip = comfy.sd.CLIP(
        Target,
        tokenizer_data={
            "t5xxl_min_length": TEXT_TOKENS,
            "clip_l_max_length": CLIP_TOKENS,
            "clip_g_max_length": CLIP_TOKENS,
        },
        model_options={
            "clip_l_model_config": sizes,
            "clip_g_model_config": {**sizes, "hidden_act": "quick_gelu"},
            "t5xxl_model_config": dict(T5_CONFIG),
            "dtype": torch.float32,
        },
    )
    if state is not None:
        for part, saved in (("clip_l", "clip_l"), ("clip_g", "clip_l"), ("t5xxl", "t5xxl")):
            tensors = {k.split(".", 1)[1]: v for k, v in state.items() if k.startswith(f"{saved}.")}
            encoder = getattr(clip.cond_stage_model, part).transformer
            idle = {k: torch.zeros_like(v) for k, v in encoder.state_dict().items()}
            encoder.load_state_dict({**idle, **tensors})
            if part != "t5xxl":  # whose places are added to a whole chunk
                table = encoder.text_model.embeddings.position_embedding
                table.weight = torch.nn.Parameter(table.weight[:CLIP_TOKENS], requires_grad=False)
    return clip
