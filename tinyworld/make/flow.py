"""How a tiny flow model is trained, whatever its net.

Rectified flow matching on latents of drawn pictures. Nothing is special but the optimizer: hidden
matrices take orthogonalised momentum (Muon), which learns shapes in about half the steps of AdamW.
The learning rate holds until 60% of the time is used, then falls to zero in a straight line.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..models import (
    FLUX_LATENTS,
    TEXT_TOKENS,
    TinyAutoencoder,
    load_weights,
    save_weights,
)
from .data import captions, random_scenes, render_all
from .host import use_comfyui


@dataclass(frozen=True)
class Net:
    """One net, as its training has to see it."""

    name: str  # of its weights and of the module that makes it
    build: Callable[[dict[str, Tensor] | None], Any]  # a ModelPatcher, of weights or at random
    initialise: Callable[[nn.Module], None]
    compile: Callable[[nn.Module], None]
    hidden: tuple[str, ...]  # how the names of its blocks' weights begin
    modulation: str  # what is in the names of layers that scale and shift
    encode: Callable[[list[str]], tuple[Tensor, Tensor]]  # captions: (N, T, D) and (N, P)
    velocity: Callable[[nn.Module, Tensor, Tensor, Tensor, Tensor], Tensor]  # of x_t, t, both texts
    unconditional: float = 0.0  # share of samples without a caption, for guidance


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal by Newton-Schulz steps (K. Jordan et al., 2024), in float32."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                state = self.state[parameter]
                buffer = state.setdefault("momentum", torch.zeros_like(parameter))
                buffer.lerp_(parameter.grad, 1 - group["momentum"])
                update = orthogonal(parameter.grad.lerp(buffer, group["momentum"]))
                scale = 0.2 * max(parameter.shape) ** 0.5  # the size of an AdamW update
                parameter.add_(update, alpha=-group["lr"] * scale)


def orthogonal(matrix: Tensor, steps: int = 4) -> Tensor:
    """The matrix with its singular values pushed to about 1."""
    wide = matrix if matrix.shape[0] <= matrix.shape[1] else matrix.T
    x = wide / (wide.norm() + 1e-7)
    for _ in range(steps):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x if wide is matrix else x.T


def plain_attention(func: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, **_: Any) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, written out: at so few tokens the CPU's fused kernel is slower.

    (B, H, N, D) each, or (B, N, H * D) and (B, N, H, D).
    """
    if not (q.ndim == 4 and q.shape[1] == heads):
        q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


WORDINGS = 2  # captions of each picture
ATTENTION = {"optimized_attention_override": plain_attention}


def copying_norms(net: nn.Module) -> None:
    """Each LayerNorm reads a copy: ComfyUI adds residuals in place to what autograd needs."""
    for module in net.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_pre_hook(lambda _, args: (args[0].clone(),))


def make_latents(count: int, seed: int, cache: Path) -> Tensor:
    """Model-space latents of `count` pictures, (N, 16, 16, 16) float16, kept in `cache`."""
    if cache.exists():
        return torch.load(cache, weights_only=True)
    autoencoder = TinyAutoencoder()
    autoencoder.load_state_dict(load_weights("vae"))
    scenes = random_scenes(count, seed)
    parts = []
    with torch.no_grad():
        for start in range(0, count, 500):
            pictures = render_all(scenes[start : start + 500], seed + 1000 + start)
            code = autoencoder.encode(pictures.float() / 127.5 - 1)
            parts.append(FLUX_LATENTS.inside(code).half())
    latents = torch.cat(parts)
    torch.save(latents, cache)
    return latents


def random_times(count: int, shift: float = 2.0) -> Tensor:
    """t in (0, 1), one in each of `count` equal strata, shifted towards noise."""
    u = (torch.randperm(count) + torch.rand(count)) / count
    return shift * u / (1 + (shift - 1) * u)


def flow_loss(net: Net, model: nn.Module, x_0: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
    """mean (v(x_t, t, c) - (noise - x_0))^2."""
    t = random_times(len(x_0))
    noise = torch.randn_like(x_0)
    x_t = (1 - t)[:, None, None, None] * x_0 + t[:, None, None, None] * noise
    return (net.velocity(model, x_t, t, text, pooled) - (noise - x_0)).square().mean()


def groups(net: Net, model: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Hidden matrices for Muon, all else for AdamW."""
    hidden, rest = [], []
    for name, parameter in model.named_parameters():
        matrix = parameter.ndim == 2 and net.modulation not in name
        (hidden if name.startswith(net.hidden) and matrix else rest).append(parameter)
    return hidden, rest


def rate(progress: float, step: int) -> float:
    """Learning rate factor: warm-up, hold, straight fall from 60% of the time."""
    return min(1.0, (step + 1) / 100) * min(1.0, max(0.0, (1 - progress) / 0.4))


def save(
    net: Net,
    model: nn.Module,
    average: dict[str, Tensor],
    options: argparse.Namespace,
    step: int,
) -> None:
    state = {name: average.get(name, value) for name, value in model.state_dict().items()}
    save_weights(
        net.name,
        state,
        {
            "made_by": f"python -m tinyworld.make.{net.name}",
            "steps": step,
            "minutes": options.minutes,
            "batch": options.batch,
            "pictures": options.pictures,
            "seed": options.seed,
            "resumed": options.resume,
            "rate": options.rate,
            "torch": torch.__version__,
        },
    )


def parse(description: str | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--minutes", type=float, default=65)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--pictures", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path(".tinyworld-cache.pt"))
    parser.add_argument("--resume", action="store_true", help="start from the committed weights")
    parser.add_argument("--rate", type=float, default=1.0, help="of the full learning rates")
    return parser.parse_args()


def encoded_captions(net: Net, options: argparse.Namespace) -> list[tuple[Tensor, Tensor]]:
    """Features of WORDINGS captions of each picture, float16; the last row is of no caption."""
    scenes = random_scenes(options.pictures, options.seed)
    seeds = range(options.seed, options.seed + WORDINGS)
    return [net.encode([*captions(scenes, seed, TEXT_TOKENS), ""]) for seed in seeds]


def train(net: Net, description: str | None) -> None:
    """Trains `net` as the command line says, and saves it every 500 steps."""
    options = parse(description)
    use_comfyui()
    torch.manual_seed(options.seed)
    latents = make_latents(options.pictures, options.seed, options.cache)
    encoded = encoded_captions(net, options)
    model = net.build(load_weights(net.name) if options.resume else None).model.diffusion_model
    if not options.resume:
        net.initialise(model)
    model.requires_grad_(True)
    copying_norms(model)
    net.compile(model)
    hidden, rest = groups(net, model)
    optimizers = [
        Muon(hidden, lr=3e-3),
        torch.optim.AdamW(rest, lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0),
    ]
    base_rates = [3e-3, 2e-3]
    average = {name: p.detach().clone() for name, p in model.named_parameters()}
    start, step, total = time.time(), 0, 0.0
    while (progress := (time.time() - start) / (60 * options.minutes)) < 1:
        rows = torch.randint(0, options.pictures, (options.batch,))
        text, pooled = encoded[step % WORDINGS]
        said = torch.where(torch.rand(options.batch) < net.unconditional, len(latents), rows)
        batch = latents[rows].float(), text[said].float(), pooled[said].float()
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast
            loss = flow_loss(net, model, *batch)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, base in zip(optimizers, base_rates, strict=True):
            optimizer.param_groups[0]["lr"] = base * options.rate * rate(progress, step)
            optimizer.step()
            optimizer.zero_grad()
        decay = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                average[name].lerp_(parameter, 1 - decay)
        total, step = total + loss.item(), step + 1
        if step % 50 == 0:
            print(f"{step} {time.time() - start:.0f}s {total / 50:.4f}", flush=True)
            total = 0.0
        if step % 500 == 0:
            save(net, model, average, options, step)
    save(net, model, average, options, step)
