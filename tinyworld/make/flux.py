"""Trains the tiny Flux: `python -m tinyworld.make.flux --minutes 65`.

Rectified flow matching on latents of drawn pictures. Nothing is special but the optimizer: hidden
matrices take orthogonalised momentum (Muon), which learns shapes in about half the steps of AdamW.
The learning rate holds until 60% of the time is used, then falls to zero in a straight line.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..models import (
    LATENT_SCALE,
    LATENT_SHIFT,
    TEXT_TOKENS,
    TinyAutoencoder,
    build_clip,
    build_model,
    load_weights,
    save_weights,
)
from .data import captions, random_scenes, render_all, tokenize
from .host import use_comfyui


def initialise(flux: nn.Module) -> None:
    """Xavier matrices, zero biases; modulations and the last layer start at zero."""
    for name, parameter in flux.named_parameters():
        if name.endswith(".scale"):
            nn.init.ones_(parameter)
        elif (
            parameter.ndim < 2
            or "mod.lin" in name
            or "modulation" in name
            or name.startswith("final_layer")
        ):
            nn.init.zeros_(parameter)
        else:
            nn.init.xavier_uniform_(parameter)


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
    """softmax(q k^T / sqrt(d)) v, written out: at 88 tokens the CPU's fused kernel is slower."""
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


ATTENTION = {"optimized_attention_override": plain_attention}


def compile_blocks(flux: nn.Module) -> None:
    """Compiles every block as a pure function.

    ComfyUI adds residuals in place, while autograd needs what a LayerNorm read to stay as it was:
    each block gets copies of its streams and each LayerNorm a copy of its input. The compiler drops
    the copies that turn out not to matter.
    """
    for module in flux.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_pre_hook(lambda _, args: (args[0].clone(),))
    for block in flux.double_blocks:
        block.forward = torch.compile(_pure_double(block.forward))
    for block in flux.single_blocks:
        block.forward = torch.compile(_pure_single(block.forward))


def _pure_double(forward: Any) -> Any:
    def run(*, img: Tensor, txt: Tensor, vec: Tensor, pe: Tensor, **_: Any) -> Any:
        return forward(img.clone(), txt.clone(), vec, pe, transformer_options=ATTENTION)

    return run


def _pure_single(forward: Any) -> Any:
    def run(x: Tensor, *, vec: Tensor, pe: Tensor, **_: Any) -> Any:
        return forward(x.clone(), vec, pe, transformer_options=ATTENTION)

    return run


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
            parts.append(((code - LATENT_SHIFT) * LATENT_SCALE).half())
    latents = torch.cat(parts)
    torch.save(latents, cache)
    return latents


@torch.no_grad()
def encode_captions(texts: list[str]) -> tuple[Tensor, Tensor]:
    """T5 features (N, T, 64) and CLIP vectors (N, 32), float16, by the frozen encoders."""
    clip = build_clip(load_weights("text"))
    model = clip.cond_stage_model
    t5_ids, clip_ids = tokenize(texts, TEXT_TOKENS)
    text, pooled = [], []
    for start in range(0, len(texts), 1000):
        rows = slice(start, start + 1000)
        text.append(model.t5xxl.transformer(t5_ids[rows], None)[0].half())
        pooled.append(model.clip_l.transformer(clip_ids[rows])[3].half())
    return torch.cat(text), torch.cat(pooled)


def random_times(count: int, shift: float = 2.0) -> Tensor:
    """t in (0, 1), one in each of `count` equal strata, shifted towards noise."""
    u = (torch.randperm(count) + torch.rand(count)) / count
    return shift * u / (1 + (shift - 1) * u)


def flow_loss(flux: nn.Module, x_0: Tensor, text: Tensor, pooled: Tensor) -> Tensor:
    """mean (v(x_t, t, c) - (noise - x_0))^2."""
    t = random_times(len(x_0))
    noise = torch.randn_like(x_0)
    x_t = (1 - t)[:, None, None, None] * x_0 + t[:, None, None, None] * noise
    guidance = 1 + 4 * torch.rand(len(x_0))  # an input that this model learns to ignore
    v = flux(x_t, t, text, pooled, guidance, transformer_options=dict(ATTENTION))
    return (v - (noise - x_0)).square().mean()


def groups(flux: nn.Module) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Hidden matrices for Muon, all else for AdamW."""
    hidden, rest = [], []
    for name, parameter in flux.named_parameters():
        in_block = name.startswith(("double_blocks", "single_blocks"))
        matrix = parameter.ndim == 2 and "mod" not in name
        (hidden if in_block and matrix else rest).append(parameter)
    return hidden, rest


def rate(progress: float, step: int) -> float:
    """Learning rate factor: warm-up, hold, straight fall from 60% of the time."""
    return min(1.0, (step + 1) / 100) * min(1.0, max(0.0, (1 - progress) / 0.4))


def save(
    flux: nn.Module, average: dict[str, Tensor], options: argparse.Namespace, step: int
) -> None:
    state = {name: average.get(name, value) for name, value in flux.state_dict().items()}
    save_weights(
        "flux",
        state,
        {
            "made_by": "python -m tinyworld.make.flux",
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


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=65)
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--pictures", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument("--cache", type=Path, default=Path(".tinyworld-cache.pt"))
    parser.add_argument("--resume", action="store_true", help="start from the committed weights")
    parser.add_argument("--rate", type=float, default=1.0, help="of the full learning rates")
    return parser.parse_args()


def main() -> None:
    options = parse()
    use_comfyui()
    torch.manual_seed(options.seed)
    latents = make_latents(options.pictures, options.seed, options.cache)
    scenes = random_scenes(options.pictures, options.seed)
    wordings = 2  # captions of each picture
    encoded = [
        encode_captions(captions(scenes, options.seed + i, TEXT_TOKENS)) for i in range(wordings)
    ]
    flux = build_model(load_weights("flux") if options.resume else None).model.diffusion_model
    if not options.resume:
        initialise(flux)
    flux.requires_grad_(True)
    compile_blocks(flux)
    hidden, rest = groups(flux)
    optimizers = [
        Muon(hidden, lr=3e-3),
        torch.optim.AdamW(rest, lr=2e-3, betas=(0.9, 0.99), weight_decay=0.0),
    ]
    base_rates = [3e-3, 2e-3]
    average = {name: p.detach().clone() for name, p in flux.named_parameters()}
    start, step, total = time.time(), 0, 0.0
    while (progress := (time.time() - start) / (60 * options.minutes)) < 1:
        rows = torch.randint(0, options.pictures, (options.batch,))
        text, pooled = encoded[step % wordings]
        loss = flow_loss(flux, latents[rows].float(), text[rows].float(), pooled[rows].float())
        loss.backward()
        nn.utils.clip_grad_norm_(flux.parameters(), 1.0)
        for optimizer, base in zip(optimizers, base_rates, strict=True):
            optimizer.param_groups[0]["lr"] = base * options.rate * rate(progress, step)
            optimizer.step()
            optimizer.zero_grad()
        decay = min(0.999, (step + 1) / (step + 10))
        with torch.no_grad():
            for name, parameter in flux.named_parameters():
                average[name].lerp_(parameter, 1 - decay)
        total, step = total + loss.item(), step + 1
        if step % 50 == 0:
            print(f"{step} {time.time() - start:.0f}s {total / 50:.4f}", flush=True)
            total = 0.0
        if step % 500 == 0:
            save(flux, average, options, step)
    save(flux, average, options, step)


if __name__ == "__main__":
    main()
