"""The miniature Flux as files keep models: in smaller numbers, with scales, and packed.

`STORED` makes each from the same float32 weights. The host's own layers do the arithmetic, but for
packed weights, whose layers bring their own way to unpack one, as those of GGUF nodes do.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from .pack import import_pack

import_pack()

import comfy.lora
import comfy.model_patcher
import comfy.ops
import comfy.utils
import torch
from eraseanything_pack.tinyworld.models import build_model
from torch import Tensor, nn

from .full_width import DTYPES

FLOAT8 = torch.float8_e4m3fn
LARGEST = torch.finfo(FLOAT8).max
BLOCK = 32  # numbers that share a scale in a 4 bit file

State = Mapping[str, Tensor]


def cast(state: State, dtype: str) -> Any:
    """Every weight in one of DTYPES, as *Load Diffusion Model* does it."""
    return build_model(dict(state), DTYPES[dtype])


def scaled_float8(state: State) -> Any:
    """Matrices in float8 with a scale for each, as the scaled_fp8 layout has them."""
    state = {**state}
    for name in [key for key in state if key.endswith(".weight") and state[key].ndim == 2]:
        scale = state[name].abs().max() / LARGEST
        state[name] = (state[name] / scale).to(FLOAT8)
        state[name.removesuffix("weight") + "scale_weight"] = scale
    return build_model(state, DTYPES["bfloat16"], scaled_fp8=FLOAT8)


class Packed(Tensor):
    """A matrix as a heap of bytes, with a scale for each block; patches wait for the unpacking."""

    scale: Tensor
    patches: tuple[Any, ...] = ()

    @classmethod
    def of(cls, weight: Tensor, *, block: int = 0, most: int = 127) -> Packed:
        """Whole numbers up to `most`; a scale is for `block` numbers of a row, or for all."""
        blocks = weight.float().unflatten(1, (-1, block or weight.shape[1]))
        scale = blocks.abs().amax(dim=2, keepdim=True).clamp_min(1e-12) / most
        packed = (blocks / scale).round().to(torch.int8).flatten().as_subclass(cls)
        packed.scale = scale
        return packed

    @property
    def shape(self) -> torch.Size:  # type: ignore[override]
        return torch.Size((len(self.scale), self.numel() // len(self.scale)))

    def detach(self) -> Packed:
        return self

    def unpacked(self) -> Tensor:
        """(rows, columns), float32."""
        blocks = self.as_subclass(Tensor).view(*self.scale.shape[:2], -1)
        return (blocks * self.scale).flatten(1)


class PackedLinear(comfy.ops.manual_cast.Linear):
    def cast_bias_weight(self, x: Tensor) -> tuple[Tensor, Tensor]:
        weight = self.weight.unpacked()
        if self.weight.patches:
            weight = comfy.lora.calculate_weight(self.weight.patches, weight, "weight")
        return weight.to(x), self.bias.to(x)

    def forward_comfy_cast_weights(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, *self.cast_bias_weight(x))


class PackedPatcher(comfy.model_patcher.ModelPatcher):
    """Leaves patches with the weights that they are for."""

    def patch_weight_to_device(self, key: str, *args: Any, **options: Any) -> None:
        weight = comfy.utils.get_attr(self.model, key)
        if isinstance(weight, Packed):
            weight.patches = self.patches.get(key, ())
        else:
            super().patch_weight_to_device(key, *args, **options)

    def unpatch_model(self, device_to: Any = None, unpatch_weights: bool = True) -> None:
        if unpatch_weights:
            for weight in self.model.parameters():
                if isinstance(weight, Packed):
                    weight.patches = ()
        super().unpatch_model(device_to, unpatch_weights)


def pack(layer: Any, **how: int) -> None:
    """Turns a Linear of the host into one whose weight is packed."""
    layer.__class__ = PackedLinear
    layer.weight = nn.Parameter(Packed.of(layer.weight, **how), requires_grad=False)


def packed_model(model: Any) -> PackedPatcher:
    """The MODEL with the patcher that its packed layers need."""
    return PackedPatcher(model.model, model.load_device, model.offload_device)


def packed(state: State, **how: int) -> Any:
    """Every matrix packed, computed in bfloat16."""
    model = cast(state, "bfloat16")
    for layer in model.model.diffusion_model.modules():
        if isinstance(layer, nn.Linear):
            pack(layer, **how)
    return packed_model(model)


STORED: Mapping[str, Callable[[State], Any]] = MappingProxyType(
    {
        **{name: partial(cast, dtype=name) for name in ("float32", "bfloat16", "float16")},
        "float8": partial(cast, dtype="float8_e4m3fn"),
        "scaled float8": scaled_float8,
        "8 bit, packed": packed,
        "4 bit, packed": partial(packed, block=BLOCK, most=7),
    }
)
