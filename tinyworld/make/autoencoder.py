"""Makes the tiny autoencoder: `python -m tinyworld.make.autoencoder`.

The encoder is a principal component analysis of 8 x 8 patches (192 numbers to 16), each component
divided by the square root of its spread, so that fine detail stands out from the noise of the last
sampling steps; it is fixed before anything is trained on it. The decoder learns to draw sharp
pictures from such codes, with a little noise on them, since sampled codes are never exact.
"""

from __future__ import annotations

import argparse
import time

import torch
from einops import rearrange
from torch import Tensor, nn

from ..models import FLUX_LATENTS, TinyAutoencoder, load_weights, save_weights
from ..pictures import render
from .data import random_scenes, render_all


def patch_code(pictures: Tensor, channels: int = 16) -> tuple[Tensor, Tensor]:
    """Convolution weight (16, 3, 8, 8) and bias of the code: model-space mean 0, mean variance 1.

    `pictures`: (N, 3, H, W) in -1..1. The result already includes FLUX's latent shift and scale.
    """
    patches = rearrange(pictures, "n c (h p) (w q) -> (n h w) (c p q)", p=8, q=8)
    mean = patches.mean(0)
    spread, basis = torch.linalg.eigh(torch.cov((patches - mean).T.double()))
    spread, basis = spread[-channels:].flip(0).float(), basis[:, -channels:].flip(1).float()
    code = basis.T * spread.pow(-0.25)[:, None]  # each component's variance becomes its spread
    code = code / spread.sqrt().mean().sqrt()
    weight = rearrange(code, "k (c p q) -> k c p q", c=3, p=8) / FLUX_LATENTS.scale
    return weight, -(code @ mean) / FLUX_LATENTS.scale + FLUX_LATENTS.shift


def train_decoder(model: TinyAutoencoder, steps: int, generator: torch.Generator) -> None:
    """Mean absolute error of decoded pictures, codes with noise of 0.08 in model space."""
    pictures = render_all(random_scenes(6000, 11), 12)
    trained = [p for name, p in model.named_parameters() if not name.startswith("code")]
    optimizer = torch.optim.AdamW(trained, lr=1.5e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, steps, pct_start=0.05)
    start = time.time()
    for step in range(steps):
        rows = torch.randint(0, len(pictures), (24,), generator=generator)
        pixels = pictures[rows].float() / 127.5 - 1
        with torch.no_grad():
            code = model.encode(pixels)
            code = code + 0.08 / FLUX_LATENTS.scale * torch.randn(code.shape, generator=generator)
        difference = model.decode(code) - pixels
        loss = difference.abs().mean() + difference.square().mean()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"{step} {time.time() - start:.0f}s {loss.item():.4f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--keep-code", action="store_true", help="train the decoder alone, anew")
    options = parser.parse_args()
    generator = torch.Generator().manual_seed(options.seed)
    torch.manual_seed(options.seed)
    model = TinyAutoencoder()
    if options.keep_code:
        old = load_weights("vae")
        weight, bias = old["code.weight"], old["code.bias"]
    else:
        weight, bias = patch_code(render(random_scenes(1500, 10), generator) * 2 - 1)
    with torch.no_grad():
        model.code.weight.copy_(weight.half().float())
        model.code.bias.copy_(bias.half().float())
    if options.steps:
        train_decoder(model, options.steps, generator)
    made_by = "python -m tinyworld.make.autoencoder"
    path = save_weights(
        "vae", model.state_dict(), {"made_by": made_by, **vars(options), "torch": torch.__version__}
    )
    print(path)


if __name__ == "__main__":
    main()
