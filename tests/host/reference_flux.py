"""Flux.1 written once more, out of place and without a host: what gradients are compared with.

Written from the published architecture (double blocks with a joint attention, single blocks with
a parallel MLP, adaLN modulation, RMS-normed queries and keys, rotary positions over three axes).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from einops import rearrange
from torch import Tensor
from torch.nn.functional import gelu, layer_norm, linear, silu

Weights = Mapping[str, Tensor]


def velocity_and_mass(
    weights: Weights, config: Mapping[str, Any], inputs: Mapping[str, Any], tokens: Tensor
) -> tuple[Tensor, dict[int, Tensor]]:
    """v (B, C, h, w) and, per double block, the dense softmax read at `tokens`."""
    flux = _Flux(weights, config)
    return flux.run(**inputs, tokens=tokens)


def with_lora(weights: Weights, rows: Mapping[str, Any], lora: Mapping[str, Tensor]) -> Weights:
    """Weights with (alpha / r) B A added to the rows that each adapter names."""
    merged = dict(weights)
    for name, (key, start, length) in rows.items():
        down, up = lora[f"{name}.lora_A.weight"], lora[f"{name}.lora_B.weight"]
        delta = up @ down * (lora[f"{name}.alpha"] / down.shape[0])
        full = merged[key]
        before, after = full[:start], full[start + length :]
        merged[key] = torch.cat((before, full[start : start + length] + delta, after))
    return merged


class _Flux:
    def __init__(self, weights: Weights, config: Mapping[str, Any]) -> None:
        self.w, self.c = weights, config
        self.dtype = weights["img_in.weight"].dtype

    def run(
        self, x_t: Tensor, t: Tensor, text: Tensor, pooled: Tensor, guidance: Any, tokens: Tensor
    ) -> tuple[Tensor, dict[int, Tensor]]:
        h, w = x_t.shape[2] // 2, x_t.shape[3] // 2
        patches = rearrange(x_t, "b c (h p) (w q) -> b (h w) (c p q)", p=2, q=2)
        img, txt = self.lin("img_in", patches), self.lin("txt_in", text)
        vec = self.mlp("time_in", self.sinusoid(t)) + self.mlp("vector_in", pooled)
        if guidance is not None:
            vec = vec + self.mlp("guidance_in", self.sinusoid(torch.full_like(t, guidance)))
        pe = self.positions(txt.shape[1], h, w)
        mass = {}
        for i in range(self.c["depth"]):
            img, txt, attention = self.double(f"double_blocks.{i}", img, txt, vec, pe)
            mass[i] = self.read(attention, tokens, txt.shape[1])
        x = torch.cat((txt, img), 1)
        for i in range(self.c["depth_single_blocks"]):
            x = self.single(f"single_blocks.{i}", x, vec, pe)
        shift, scale = self.lin("final_layer.adaLN_modulation.1", silu(vec))[:, None].chunk(2, -1)
        out = self.lin("final_layer.linear", self.norm(x[:, txt.shape[1] :], shift, scale))
        out = rearrange(out, "b (h w) (c p q) -> b c (h p) (w q)", h=h, w=w, p=2, q=2)
        return out, mass

    def double(self, name: str, img: Tensor, txt: Tensor, vec: Tensor, pe: Tensor) -> Any:
        mods = {
            s: self.lin(f"{name}.{s}_mod.lin", silu(vec))[:, None].chunk(6, -1) for s in STREAMS
        }
        streams = {"txt": txt, "img": img}
        heads = [
            self.heads(f"{name}.{s}_attn", self.norm(streams[s], *mods[s][:2])) for s in STREAMS
        ]
        q, k, v = (torch.cat(parts, 2) for parts in zip(*heads, strict=True))
        mixed, attention = self.attend(q, k, v, pe)
        parts = dict(zip(STREAMS, mixed.split([txt.shape[1], img.shape[1]], 1), strict=True))
        for s in STREAMS:
            gate, shift, scale, gate_mlp = mods[s][2:]
            x = streams[s] + gate * self.lin(f"{name}.{s}_attn.proj", parts[s])
            hidden = gelu(
                self.lin(f"{name}.{s}_mlp.0", self.norm(x, shift, scale)), approximate="tanh"
            )
            streams[s] = x + gate_mlp * self.lin(f"{name}.{s}_mlp.2", hidden)
        return streams["img"], streams["txt"], attention

    def single(self, name: str, x: Tensor, vec: Tensor, pe: Tensor) -> Tensor:
        shift, scale, gate = self.lin(f"{name}.modulation.lin", silu(vec))[:, None].chunk(3, -1)
        both = self.lin(f"{name}.linear1", self.norm(x, shift, scale))
        qkv, hidden = both[..., : 3 * x.shape[-1]], both[..., 3 * x.shape[-1] :]
        mixed, _ = self.attend(*self.split(f"{name}.norm", qkv), pe)
        joined = torch.cat((mixed, gelu(hidden, approximate="tanh")), -1)
        return x + gate * self.lin(f"{name}.linear2", joined)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, pe: Tensor) -> tuple[Tensor, Tensor]:
        q, k = self.rotate(q, pe), self.rotate(k, pe)
        attention = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1)
        return rearrange(attention @ v, "b h n d -> b n (h d)"), attention

    def heads(self, name: str, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.split(f"{name}.norm", self.lin(f"{name}.qkv", x))

    def split(self, norm: str, qkv: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = rearrange(qkv, "b n (k h d) -> k b h n d", k=3, h=self.c["num_heads"])
        return self.rms(f"{norm}.query_norm", q), self.rms(f"{norm}.key_norm", k), v

    def rms(self, name: str, x: Tensor) -> Tensor:
        scale = self.w.get(f"{name}.scale", self.w.get(f"{name}.weight"))
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * scale

    def norm(self, x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
        return layer_norm(x, x.shape[-1:], eps=1e-6) * (1 + scale) + shift

    def lin(self, name: str, x: Tensor) -> Tensor:
        return linear(x, self.w[f"{name}.weight"], self.w[f"{name}.bias"])

    def mlp(self, name: str, x: Tensor) -> Tensor:
        return self.lin(f"{name}.out_layer", silu(self.lin(f"{name}.in_layer", x)))

    def sinusoid(self, t: Tensor) -> Tensor:
        rates = torch.exp(-torch.arange(128) / 128 * torch.log(torch.tensor(10000.0)))
        angles = 1000 * t[:, None].float() * rates
        return torch.cat((angles.cos(), angles.sin()), -1).to(self.dtype)

    def positions(self, text: int, h: int, w: int) -> Tensor:
        """Rotation angles, (N, D / 2): text at the origin, image tokens at (0, row, column)."""
        image = torch.cartesian_prod(torch.zeros(1).long(), torch.arange(h), torch.arange(w))
        ids = torch.cat((torch.zeros(text, 3), image)).double()
        rates = [
            self.c["theta"] ** -(torch.arange(0, dim, 2).double() / dim)
            for dim in self.c["axes_dim"]
        ]
        return torch.cat([ids[:, i, None] * rate for i, rate in enumerate(rates)], -1)

    def rotate(self, x: Tensor, angles: Tensor) -> Tensor:
        pairs = x.unflatten(-1, (-1, 2))
        cos, sin = angles.cos().to(x), angles.sin().to(x)
        first, second = pairs[..., 0], pairs[..., 1]
        return torch.stack((cos * first - sin * second, sin * first + cos * second), -1).flatten(-2)

    def read(self, attention: Tensor, tokens: Tensor, text: int) -> Tensor:
        """Columns of the dense softmax for image queries, (B, H, L, J); 0 where absent."""
        index = tokens.clamp(min=0)[:, None, None].expand(
            -1, *attention[:, :, text:].shape[1:3], -1
        )
        return attention[:, :, text:].gather(-1, index) * (tokens >= 0)[:, None, None]


STREAMS = ("txt", "img")
