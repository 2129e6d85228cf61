"""How a tiny flow model is trained, whatever its net and its world.

Rectified flow matching on latents of drawn pictures. Nothing is special but the optimizer: hidden
matrices take orthogonalised momentum (Muon), which learns shapes in about half the steps of AdamW.
The learning rate holds for a while, then falls to zero in a straight line. What a run needs to go
on lies in its folder: latents, features of captions, and a checkpoint.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..models import FLUX_LATENTS, autoencoder_of, load_weights, save_weights
from .worlds import World, captions, world_of, world_parser


@dataclass(frozen=True)
class Net:
    """One net, as its training has to see it."""

    name: str  # of its weights and of the module that makes it
    build: Callable[[World], Any]  # a ModelPatcher with random weights
    initialise: Callable[[nn.Module], None]
    compile: Callable[[nn.Module], None]
    hidden: tuple[str, ...]  # how the names of its blocks' weights begin
    modulation: str  # what is in the names of layers that scale and shift
    encode: Callable[[World, list[str]], tuple[Tensor, Tensor]]  # (N, T, D) and (N, P)
    velocity: Callable[[nn.Module, Tensor, Tensor, Tensor, Tensor], Tensor]  # of x_t, t, both texts
    unconditional: float = 0.0  # share of samples without a caption, for guidance


class Muon(torch.optim.Optimizer):
    """Momentum made orthogonal by Newton-Schulz steps (K. Jordan et al., 2024)."""

    def __init__(self, parameters: list[nn.Parameter], lr: float, momentum: float = 0.95) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in group["params"]:
                shapes.setdefault(parameter.shape, []).append(parameter)
            for shape, some in shapes.items():
                updates = orthogonal(torch.stack([self._moved(p, group["momentum"]) for p in some]))
                scale = 0.2 * max(shape) ** 0.5  # the size of an AdamW update
                for parameter, update in zip(some, updates, strict=True):
                    parameter.add_(update, alpha=-group["lr"] * scale)

    def _moved(self, parameter: nn.Parameter, momentum: float) -> Tensor:
        """Nesterov's momentum of the gradient."""
        buffer = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
        buffer.lerp_(parameter.grad, 1 - momentum)  # type: ignore[arg-type]
        return parameter.grad.lerp(buffer, momentum)  # type: ignore[union-attr]


def orthogonal(matrices: Tensor, steps: int = 4) -> Tensor:
    """(N, rows, columns), each with its singular values pushed to about 1."""
    wide = matrices if matrices.shape[1] <= matrices.shape[2] else matrices.mT
    x = (wide / (wide.norm(dim=(1, 2), keepdim=True) + 1e-7)).bfloat16()
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(
            x, torch.baddbmm(gram, gram, gram, beta=-4.775, alpha=2.0315), x, beta=3.4445
        )
    return (x if wide is matrices else x.mT).float()


def plain_attention(func: Any, q: Tensor, k: Tensor, v: Tensor, heads: int, **_: Any) -> Tensor:
    """softmax(q k^T / sqrt(d)) v, written out: at so few tokens the CPU's fused kernel is slower.

    (B, H, N, D) each, or (B, N, H * D) and (B, N, H, D).
    """
    if not (q.ndim == 4 and q.shape[1] == heads):
        q, k, v = (x.reshape(*x.shape[:2], heads, -1).transpose(1, 2) for x in (q, k, v))
    weights = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1)
    return (weights @ v).transpose(1, 2).flatten(2)


WORDINGS = 3  # captions of each picture
ATTENTION = {"optimized_attention_override": plain_attention}


def copying_norms(net: nn.Module) -> None:
    """Each LayerNorm reads a copy: ComfyUI adds residuals in place to what autograd needs."""
    for module in net.modules():
        if isinstance(module, nn.LayerNorm):
            module.register_forward_pre_hook(lambda _, args: (args[0].clone(),))


def make_latents(world: World, count: int, seed: int) -> Tensor:
    """Model-space latents of `count` pictures, (N, 16, 16, 16) float16."""
    autoencoder = autoencoder_of(load_weights("vae", world.folder))
    pictures = world.render(world.scenes(count, seed), seed + 1).split(500)
    with torch.no_grad():
        codes = [autoencoder.encode(some.float() / 127.5 - 1) for some in pictures]
    return torch.cat([FLUX_LATENTS.inside(code).half() for code in codes])


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What the file holds, made and written where it is not there yet."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(make(), path)
    return torch.load(path, weights_only=True)


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
    """Learning rate factor: warm-up, hold, straight fall from half of the steps."""
    return min(1.0, (step + 1) / 100) * min(1.0, max(0.0, (1 - progress) / 0.5))


def wordings(world: World, count: int, seed: int) -> list[list[str]]:
    """WORDINGS captions of each of `count` pictures."""
    scenes = world.scenes(count, seed)
    return [captions(world, scenes, seed + 100 + number) for number in range(WORDINGS)]


def encoded_captions(net: Net, world: World, count: int, seed: int) -> list[tuple[Tensor, Tensor]]:
    """Features of a picture's wordings, float16; the last row is of no caption."""
    return [net.encode(world, [*texts, ""]) for texts in wordings(world, count, seed)]


class Run:
    """A training: its net, optimizers, running average, and how far it is."""

    rates = (3e-3, 2e-3)  # of Muon and of AdamW

    def __init__(self, net: Net, world: World, options: argparse.Namespace) -> None:
        self.net, self.world, self.options, self.step = net, world, options, 0
        torch.manual_seed(options.seed)
        self.model: nn.Module = net.build(world).model.diffusion_model
        net.initialise(self.model)
        self.model.requires_grad_(True)
        self.parameters = dict(self.model.named_parameters())
        hidden, rest = groups(net, self.model)
        self.optimizers = (
            Muon(hidden, lr=self.rates[0]),
            torch.optim.AdamW(rest, lr=self.rates[1], betas=(0.9, 0.99), weight_decay=0.0),
        )
        self.average = {name: p.detach().clone() for name, p in self.parameters.items()}

    @property
    def checkpoint(self) -> Path:
        return self.options.run / "checkpoint.pt"

    def go_on(self) -> None:
        """From the checkpoint; else from finished weights, where the options say so."""
        if not self.checkpoint.exists():
            if self.options.from_weights:
                self.model.load_state_dict(load_weights(self.net.name, self.world.folder))
                self.average = {name: p.detach().clone() for name, p in self.parameters.items()}
            return
        saved = torch.load(self.checkpoint, weights_only=True)
        self.step, self.average = saved["step"], saved["average"]
        self.model.load_state_dict(saved["model"], strict=False)
        for optimizer, state in zip(self.optimizers, saved["optimizers"], strict=True):
            optimizer.load_state_dict(state)
        torch.manual_seed(self.options.seed + self.step)

    def update(self, loss: Tensor) -> None:
        """One step of both optimizers, and of the running average."""
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters.values(), 1.0)
        factor = rate(self.step / self.options.steps, self.step)
        for optimizer, base in zip(self.optimizers, self.rates, strict=True):
            optimizer.param_groups[0]["lr"] = base * factor
            optimizer.step()
            optimizer.zero_grad()
        decay = min(0.998, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            now = [self.parameters[name] for name in self.average]
            torch._foreach_lerp_([*self.average.values()], now, 1 - decay)  # type: ignore[arg-type]
        self.step += 1

    def save(self) -> None:
        """The checkpoint, then the averaged weights where miniatures are loaded from."""
        saved = {
            "step": self.step,
            "model": {name: p.detach() for name, p in self.parameters.items()},
            "average": self.average,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }
        new = self.checkpoint.with_suffix(".new")
        torch.save(saved, new)
        new.rename(self.checkpoint)
        state = self.model.state_dict() | self.average
        made_by = f"python scripts/make_weights.py {self.net.name} --world {self.options.world}"
        made = {"made_by": made_by, "step": self.step, "torch": torch.__version__}
        asked = {
            name: getattr(self.options, name)
            for name in ("steps", "batch", "pictures", "seed", "from_weights")
        }
        save_weights(self.net.name, state, made | asked, self.world.folder)


def parse(net: Net, description: str | None, arguments: Sequence[str]) -> argparse.Namespace:
    parser = world_parser(description)
    parser.add_argument("--steps", type=int, default=9500)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=24_000)
    parser.add_argument("--seed", type=int, default=3)
    parser.add_argument(
        "--from-weights", action="store_true", help="start from the weights that are there"
    )
    parser.add_argument("--run", type=Path, help="a folder for what the run needs to go on")
    options = parser.parse_args(arguments)
    options.run = options.run or Path(f".weights/{options.world}_{net.name}")
    return options


def train(net: Net, description: str | None, arguments: Sequence[str]) -> None:
    """Trains `net` as the command line says, or goes on; saves every 500 steps."""
    options = parse(net, description, arguments)
    world, count, seed = world_of(options.world), options.pictures, options.seed
    latents = kept(options.run / "latents.pt", lambda: make_latents(world, count, seed))
    encoded = kept(options.run / "captions.pt", lambda: encoded_captions(net, world, count, seed))
    run = Run(net, world, options)
    run.go_on()
    copying_norms(run.model)
    net.compile(run.model)
    start, total = time.time(), 0.0
    while run.step < options.steps:
        rows = torch.randint(0, count, (options.batch,))
        text, pooled = encoded[run.step % WORDINGS]
        said = torch.where(torch.rand(options.batch) < net.unconditional, count, rows)
        batch = latents[rows].float(), text[said].float(), pooled[said].float()
        with torch.autocast("cpu", torch.bfloat16):  # twice as fast
            loss = flow_loss(net, run.model, *batch)
        run.update(loss)
        total += loss.item()
        if run.step % 100 == 0:
            print(f"{run.step} {time.time() - start:.0f}s {total / 100:.4f}", flush=True)
            total = 0.0
        if run.step % 500 == 0:
            run.save()
    run.save()
