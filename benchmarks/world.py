"""The tiny world in one place: models loaded once, concepts erased, pictures judged."""

from __future__ import annotations

import resource
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from eraseanything_pack.erase_engine.backends.comfy import ComfyFluxBackend, ComfyTextEncoder
from eraseanything_pack.erase_engine.concept import ConceptPlan, ConceptRequest, plan_concept
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.encoded import encode_plan
from eraseanything_pack.erase_engine.lora import LoraSet
from eraseanything_pack.erase_engine.train import Erasure, train_erasure
from eraseanything_pack.tinyworld.draw import draw_pictures
from eraseanything_pack.tinyworld.evaluate import (
    Prompt,
    found,
    obeyed,
    prompts_with,
    prompts_without,
)
from eraseanything_pack.tinyworld.judge import Judge, Verdict
from eraseanything_pack.tinyworld.models import load_tiny_flux
from eraseanything_pack.tinyworld.planning import TINY_WORLD
from eraseanything_pack.tinyworld.vocabulary import family
from torch import Tensor

KINDS = {"shape": "object", "colour": "style", "style": "style", "relation": "relation"}
FIRST_SEED = 1_000_000  # of pictures to judge; training seeds are small


@dataclass(frozen=True)
class Figures:
    """Shares in per cent, of pictures that training did not see."""

    found: float  # the concept, prompts that name it
    base_found: float
    kept: float  # what was asked for, prompts without the concept
    base_kept: float
    rest: float  # everything else that was asked for, prompts that name the concept
    base_rest: float
    floor: float  # the concept on the base model's pictures of the anchor prompts
    drift: float  # mean squared difference of pictures, prompts without the concept
    forwards: int
    seconds: float
    peak_mb: float


@dataclass(frozen=True)
class Trained:
    """One erasure, what was planned for it, and how long it took."""

    plan: ConceptPlan
    erasure: Erasure
    seconds: float


class World:
    """Tiny Flux, its text encoders, autoencoder and judge."""

    def __init__(self) -> None:
        self.model, clip, self.vae = load_tiny_flux()
        self.encoder = ComfyTextEncoder(clip)
        self.judge = Judge.load()
        # 88 tokens: keeping activations costs a few megabytes, recomputing them a third more time.
        self.backend = ComfyFluxBackend(self.model, checkpointing=False)

    def plan(self, concept: str, *, seed: int = 0, **fields: Any) -> ConceptPlan:
        kind = KINDS[family(concept)]
        request = ConceptRequest(concept=concept, kind=kind, seed=seed, **fields)  # type: ignore
        return plan_concept(request, self.encoder, vocabulary=TINY_WORLD)

    def erase(self, plan: ConceptPlan, config: EraseConfig, **hooks: Any) -> Erasure:
        encoded = encode_plan(plan, self.encoder, contrast=config.weights.rsc > 0)
        generator = torch.Generator().manual_seed(config.seed)
        with self.backend.session():
            return train_erasure(self.backend, encoded, config, generator=generator, **hooks)

    def draw(self, prompts: Sequence[str], seed: int, erasure: Erasure | None = None) -> Tensor:
        """Pictures by the base model, or with an erasure on."""
        with self.backend.session():
            if erasure is None:
                return draw_pictures(self.backend, self.encoder, self.vae, prompts, seed=seed)
            lora, slices = self._adapter(erasure)
            with lora.attach(slices):
                return draw_pictures(self.backend, self.encoder, self.vae, prompts, seed=seed)

    def _adapter(self, erasure: Erasure) -> tuple[LoraSet, Any]:
        names = [key.removesuffix(".alpha") for key in erasure.state if key.endswith(".alpha")]
        slices = self.backend.linear_slices(names)
        rank = len(erasure.state[f"{names[0]}.lora_A.weight"])
        alpha = erasure.state[f"{names[0]}.alpha"].item()
        lora = LoraSet(slices, rank=rank, alpha=alpha, generator=torch.Generator())
        lora.load_state_dict(erasure.state)
        return lora, slices


def tiny_config(config: EraseConfig) -> EraseConfig:
    """The config at the tiny world's resolution."""
    return replace(config, width=128, height=128)


def train(world: World, concept: str, config: EraseConfig) -> Trained:
    """Erases one concept, planned as the node plans it when only the concept is filled in."""
    plan = world.plan(concept, seed=config.seed)
    start = time.perf_counter()
    erasure = world.erase(plan, config)
    return Trained(plan, erasure, time.perf_counter() - start)


def measure(
    world: World, trained: Trained, *, count: int = 50, seed: int = 0
) -> tuple[Figures, dict[str, Tensor]]:
    """What the judge says; the pictures too, by "named"/"others" and "base"/"erased"."""
    concept = trained.plan.concept
    prompts = {
        "named": prompts_with(concept, count, seed),
        "others": prompts_without(concept, count, seed),
    }
    pictures = {
        f"{kind} {model}": world.draw([one.text for one in some], FIRST_SEED + seed, lora)
        for kind, some in prompts.items()
        for model, lora in (("base", None), ("erased", trained.erasure))
    }
    return _figures(world, trained, prompts, pictures), pictures


def _figures(
    world: World,
    trained: Trained,
    prompts: dict[str, list[Prompt]],
    pictures: dict[str, Tensor],
) -> Figures:
    concept, named, others = trained.plan.concept, prompts["named"], prompts["others"]
    verdicts = {name: world.judge.look(some) for name, some in pictures.items()}
    difference = pictures["others erased"] - pictures["others base"]
    return Figures(
        found=_share(found(concept, named, verdicts["named erased"])),
        base_found=_share(found(concept, named, verdicts["named base"])),
        kept=_share(obeyed(others, verdicts["others erased"])),
        base_kept=_share(obeyed(others, verdicts["others base"])),
        rest=_share(obeyed(named, verdicts["named erased"], but=concept)),
        base_rest=_share(obeyed(named, verdicts["named base"], but=concept)),
        floor=_share(found(concept, named, _anchor_verdict(world, trained.plan, named))),
        drift=difference.square().mean().item(),
        forwards=trained.erasure.forwards,
        seconds=round(trained.seconds, 1),
        peak_mb=round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    )


def _anchor_verdict(world: World, plan: ConceptPlan, named: Sequence[Prompt]) -> Verdict:
    """The base model on the same prompts with the anchor in the concept's place."""
    texts = [" ".join(p.text.replace(plan.concept, plan.anchor).split()) for p in named]
    return world.judge.look(world.draw(texts, FIRST_SEED))


def _share(hits: Tensor) -> float:
    return round(100 * hits.float().mean().item(), 2)


def as_row(concept: str, figures: Figures) -> dict[str, Any]:
    return {"concept": concept, "kind": family(concept), **asdict(figures)}
