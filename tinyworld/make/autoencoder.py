"""Makes the tiny autoencoder: `python scripts/make_weights.py autoencoder`.

The encoder is a principal component analysis of 8 x 8 patches (192 numbers to 16), each component
divided by the square root of its spread, so that fine detail stands out from the noise of the last
sampling steps; it is fixed before anything is trained on it. The decoder learns to draw sharp
pictures from such codes, with a little noise on them, since sampled codes are never exact.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import torch
from einops import rearrange
from torch import Tensor, nn

from ..models import FLUX_LATENTS, TinyAutoencoder, autoencoder_of, load_weights, save_weights
from .worlds import world_of, world_parser

RATE = 7e-4
NOISE = 0.16  # in model space: the most that is put on a code
PICTURES = 6000


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


def edges(difference: Tensor) -> Tensor:
    """Mean size of the steps from pixel to pixel, across and down."""
    across, down = difference.diff(dim=-1), difference.diff(dim=-2)
    return across.abs().mean() + down.abs().mean()


def train_decoder(model: TinyAutoencoder, pictures: Tensor, steps: int) -> None:
    """In place. |d| + d^2 + |steps of d| / 2, d the pictures' error from codes with some noise."""
    trained = [p for name, p in model.named_parameters() if not name.startswith("code")]
    optimizer = torch.optim.AdamW(trained, lr=RATE, betas=(0.9, 0.99), weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, steps, pct_start=0.05)
    start = time.time()
    for step in range(steps):
        rows = torch.randint(0, len(pictures), (24,))
        pixels = pictures[rows].float() / 127.5 - 1
        with torch.no_grad():
            code = model.encode(pixels)
            noise = NOISE / FLUX_LATENTS.scale * torch.rand(len(rows), 1, 1, 1)
            code = code + noise * torch.randn_like(code)
        with torch.autocast("cpu", torch.bfloat16):
            decoded = model.decode(code)
        difference = decoded.float() - pixels
        loss = difference.abs().mean() + difference.square().mean() + edges(difference) / 2
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"{step} {time.time() - start:.0f}s {loss.item():.4f}", flush=True)


def main(arguments: Sequence[str]) -> None:
    parser = world_parser(__doc__)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--seed", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="train the committed decoder on")
    parser.add_argument("--keep-code", action="store_true", help="train the decoder alone, anew")
    options = parser.parse_args(arguments)
    world = world_of(options.world)
    torch.manual_seed(options.seed)
    pictures = world.render(world.scenes(PICTURES, 11), 12)
    model = TinyAutoencoder(*world.decoder)
    if options.resume:
        model = autoencoder_of(load_weights("vae", world.folder))
    else:
        if options.keep_code:
            old = load_weights("vae", world.folder)
            weight, bias = old["code.weight"], old["code.bias"]
        else:
            weight, bias = patch_code(pictures[:1500].float() / 127.5 - 1)
        with torch.no_grad():
            model.code.weight.copy_(weight.half().float())
            model.code.bias.copy_(bias.half().float())
    if options.steps:
        train_decoder(model, pictures, options.steps)
    made_by = {"made_by": "python scripts/make_weights.py autoencoder", **vars(options)}
    made_by |= {"torch": torch.__version__}
    print(save_weights("vae", model.state_dict(), made_by, world.folder))
