"""One Flux, two layouts: which rows of the published layers a diffusers name means.

ComfyUI keeps the published layout, in which query, key and value of a stream are one Linear, and
so are all that a single block reads from its input. diffusers has a layer for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import torch
from torch import Tensor

# diffusers' layer -> published layer, first row, number of rows; rows are counted in hidden
# sizes, and None means "to the end".
Rows = tuple[str, int, int | None]
DOUBLE: dict[str, Rows] = {
    "attn.to_q": ("img_attn.qkv", 0, 1),
    "attn.to_k": ("img_attn.qkv", 1, 1),
    "attn.to_v": ("img_attn.qkv", 2, 1),
    "attn.to_out.0": ("img_attn.proj", 0, None),
    "attn.add_q_proj": ("txt_attn.qkv", 0, 1),
    "attn.add_k_proj": ("txt_attn.qkv", 1, 1),
    "attn.add_v_proj": ("txt_attn.qkv", 2, 1),
    "attn.to_add_out": ("txt_attn.proj", 0, None),
    "ff.net.0.proj": ("img_mlp.0", 0, None),
    "ff.net.2": ("img_mlp.2", 0, None),
    "ff_context.net.0.proj": ("txt_mlp.0", 0, None),
    "ff_context.net.2": ("txt_mlp.2", 0, None),
    "norm1.linear": ("img_mod.lin", 0, None),
    "norm1_context.linear": ("txt_mod.lin", 0, None),
}
SINGLE: dict[str, Rows] = {
    "attn.to_q": ("linear1", 0, 1),
    "attn.to_k": ("linear1", 1, 1),
    "attn.to_v": ("linear1", 2, 1),
    "proj_mlp": ("linear1", 3, None),
    "proj_out": ("linear2", 0, None),
    "norm.linear": ("modulation.lin", 0, None),
}
TOP: dict[str, Rows] = {
    "context_embedder": ("txt_in", 0, None),
    "time_text_embed.text_embedder.linear_1": ("vector_in.in_layer", 0, None),
    "time_text_embed.text_embedder.linear_2": ("vector_in.out_layer", 0, None),
}
BLOCKS = {
    "transformer_blocks": ("double_blocks", DOUBLE),
    "single_transformer_blocks": ("single_blocks", SINGLE),
}
# Weights that no adapter is ever put on, by their whole names.
_DOUBLE_NORMS = {
    "attn.norm_q.weight": "img_attn.norm.query_norm.scale",
    "attn.norm_k.weight": "img_attn.norm.key_norm.scale",
    "attn.norm_added_q.weight": "txt_attn.norm.query_norm.scale",
    "attn.norm_added_k.weight": "txt_attn.norm.key_norm.scale",
}
_SINGLE_NORMS = {
    "attn.norm_q.weight": "norm.query_norm.scale",
    "attn.norm_k.weight": "norm.key_norm.scale",
}
_NORMS = {"transformer_blocks": _DOUBLE_NORMS, "single_transformer_blocks": _SINGLE_NORMS}
_ENDS = {
    "x_embedder": "img_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
_LAST_NORM = "norm_out.linear"  # diffusers reads scale and shift from it, Flux shift and scale
_PREFIX = "model.diffusion_model."  # in whole checkpoints


def rows_of(name: str) -> Rows:
    """Published layer and rows of a diffusers layer; KeyError where there is none."""
    if name in TOP:
        return TOP[name]
    kind, _, rest = name.partition(".")
    index, _, layer = rest.partition(".")
    stream, table = BLOCKS[kind]
    path, start, length = table[layer]
    return f"{stream}.{index}.{path}", start, length


def to_diffusers(published: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A Flux's weights under diffusers' names; text encoders and VAE beside them are left out.

    Raises ValueError, naming some, where weights are missing or of another model.
    """
    whole = any(key.startswith(_PREFIX) for key in published)
    given = {
        # Newer ComfyUIs call the norms' scales weights.
        key.removeprefix(_PREFIX).replace("_norm.weight", "_norm.scale"): value
        for key, value in published.items()
        if key.startswith(_PREFIX) or not whole
    }
    hidden = len(given["img_in.bias"]) if "img_in.bias" in given else 0
    sources = dict(_sources(given, hidden))
    _check(given, {key for key, _ in sources.values()})
    return {name: cut(given[key]) for name, (key, cut) in sources.items() if key in given}


_Cut = Callable[[Tensor], Tensor]


def _sources(given: Mapping[str, Tensor], hidden: int) -> Iterator[tuple[str, tuple[str, _Cut]]]:
    """For each weight of diffusers': the published weight, and what of it is meant."""
    for name, (path, start, length) in _all_layers(given).items():
        for end in (".weight", ".bias"):
            stop = None if length is None else (start + length) * hidden
            yield name + end, (path + end, _cutter(name, slice(start * hidden, stop)))
    for kind, (stream, _) in BLOCKS.items():
        for index in _indices(given, stream):
            for norm, key in _NORMS[kind].items():
                yield f"{kind}.{index}.{norm}", (f"{stream}.{index}.{key}", _whole)


def _all_layers(given: Mapping[str, Tensor]) -> dict[str, Rows]:
    layers = {**TOP, **{name: (path, 0, None) for name, path in _ENDS.items()}}
    for kind, (stream, table) in BLOCKS.items():
        for index in _indices(given, stream):
            names = (f"{kind}.{index}.{layer}" for layer in table)
            layers |= {name: rows_of(name) for name in names}
    return layers


def _indices(given: Mapping[str, Tensor], stream: str) -> range:
    """The numbers of a stream's blocks."""
    return range(len({key.split(".")[1] for key in given if key.startswith(f"{stream}.")}))


def _cutter(name: str, rows: slice) -> _Cut:
    if name == _LAST_NORM:
        return lambda weight: torch.cat(weight.chunk(2)[::-1])
    return lambda weight: weight[rows]


def _whole(weight: Tensor) -> Tensor:
    return weight


def _check(given: Mapping[str, Tensor], used: set[str]) -> None:
    """Raises ValueError unless `given` holds the layers of a FLUX.1, and no others."""
    foreign = sorted(set(given) - used)
    missing = sorted(key for key in used - set(given) if not key.startswith("guidance_in."))
    if foreign or missing:
        raise ValueError(
            f"Got a file with {foreign[:2]} and without {missing[:2]}, expected the layers of "
            "FLUX.1. Give the file of its transformer, not quantized."
        )
