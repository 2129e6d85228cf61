"""The tiny world in one place: models loaded once, concepts erased, pictures drawn and judged."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import replace
from typing import Any

import comfy.model_management
import torch
from eraseanything_pack.erase_engine.backends.comfy.model import ComfyFlowModel
from eraseanything_pack.erase_engine.backends.comfy.text_encoder import ComfyTextEncoder
from eraseanything_pack.erase_engine.concepts.plan import ConceptPlan
from eraseanything_pack.erase_engine.concepts.planner import plan_concept
from eraseanything_pack.erase_engine.concepts.request import ConceptRequest
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.interfaces import Conditioning
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from eraseanything_pack.erase_engine.lora.dialects import DOWN
from eraseanything_pack.erase_engine.training.encoded_prompts import encode_prompts, needed_by
from eraseanything_pack.erase_engine.training.loop import Erasure, train_erasure
from eraseanything_pack.gallery.judge import load_judges
from eraseanything_pack.tinyworld.draw import draw_conditioned, draw_pictures
from eraseanything_pack.tinyworld.judge import Judge, Verdict
from eraseanything_pack.tinyworld.load import MINIATURES, load_tiny, vocabulary_of
from torch import Tensor

from .erasure.gallery_scenery import GALLERY_SCENERY
from .erasure.scenery import TINY_SCENERY, Scenery

FAMILY = next(iter(MINIATURES))
WORLDS = {"tinyworld": FAMILY, "gallery": "Flux, gallery"}  # and the first miniature of each
FIRST_SEED = 1_000_000  # of pictures to judge; training seeds are small
# Pictures to judge take fewer steps than the host's 20, in bfloat16: the first judge finds as much
# in them, and they cost half.
STEPS = 12


def option_of(family: str) -> str:
    """What a command says for a miniature that is not the first."""
    if MINIATURES[family].world == "gallery":
        return " --world gallery"
    return "" if family == FAMILY else f" --model {family}"


def stem_of(family: str, suffix: str = "", name: str = "erasure") -> str:
    """The name of a result of a miniature: "erasure_quick_sd35", and "gallery_quick"."""
    if MINIATURES[family].world == "gallery":
        return f"gallery{suffix}" if name == "erasure" else f"{name}{suffix}_gallery"
    return f"{name}{suffix}" + ("" if family == FAMILY else f"_{MINIATURES[family].weights}")


def scenery_of(family: str) -> Scenery:
    """What is asked of a miniature's pictures."""
    return {"tinyworld": TINY_SCENERY, "gallery": GALLERY_SCENERY}[MINIATURES[family].world]


def judges_of(family: str) -> tuple[Judge, Judge]:
    """Who looks at them."""
    own = MINIATURES[family].world == "gallery"
    return load_judges() if own else (Judge.load(), Judge.load("judge2"))


class World:
    """A miniature, by its family's name, its text encoders, autoencoder, judges and scenery.

    Pictures are drawn `quickly`, or else as the model's own numbers have it.
    """

    def __init__(self, family: str = FAMILY, *, quickly: bool = True) -> None:
        model, self.clip, self.vae = load_tiny(family)
        self.encoder, self.vocabulary = (
            ComfyTextEncoder(self.clip),
            vocabulary_of(MINIATURES[family].world),
        )
        self.scenery, self.judges = scenery_of(family), judges_of(family)
        self.unconditional = self.encoder.encode([""]).prompts[0]
        self._guidance, self._quickly = MINIATURES[family].guidance, quickly
        self._put(model)

    def of(self, model: Any) -> World:
        """The same world around another MODEL."""
        other = copy(self)
        other._put(model)
        return other

    def _put(self, model: Any) -> None:
        # Few tokens: keeping activations costs a few megabytes, recomputing them a third more time.
        self.model = model
        self.backend = ComfyFlowModel(model, guidance=self._guidance, checkpointing=False)

    def plan(self, concept: str, *, seed: int = 0, **fields: Any) -> ConceptPlan:
        """What the node plans when only the concept and its kind are filled in."""
        kind = self.scenery.node_kind(concept)
        request = ConceptRequest(concept=concept, kind=kind, seed=seed, **fields)  # type: ignore
        return plan_concept(request, self.encoder, vocabulary=self.vocabulary)

    def erase(self, plan: ConceptPlan, config: EraseConfig, **options: Any) -> Erasure:
        """Trains at the tiny world's resolution; `options` are `train_erasure`'s."""
        config = replace(config, width=128, height=128)
        encoded = encode_prompts(plan, self.encoder, **needed_by(config))
        generator = torch.Generator().manual_seed(config.seed)
        with self.session():
            return train_erasure(self.backend, encoded, config, generator=generator, **options)

    @property
    def judge(self) -> Judge:
        """The first judge, whose figures are the tables'."""
        return self.judges[0]

    def look(self, pictures: Tensor) -> tuple[Verdict, ...]:
        """Each judge's verdict."""
        return tuple(judge.look(pictures) for judge in self.judges)

    def draw(
        self,
        prompts: Sequence[str],
        seed: int,
        erasure: Erasure | None = None,
        *,
        steps: int = STEPS,
    ) -> Tensor:
        """(N, 3, 128, 128) pictures in 0..1 by the base model, or with an erasure on."""
        with self.erased(erasure), quickly(self._quickly):
            return draw_pictures(
                self.backend, self.encoder, self.vae, prompts, seed=seed, steps=steps
            ).float()

    def sample(self, cond: Conditioning, noise: Tensor) -> Tensor:
        """As `draw`, from N rows of text features and (N, 16, 16, 16) noise, inside `erased`."""
        with quickly(self._quickly):
            given = self.backend, self.vae, cond, noise, self.unconditional
            return draw_conditioned(*given, steps=STEPS).float()

    @contextmanager
    def session(self) -> Iterator[ComfyFlowModel]:
        """The backend, with its model loaded as samplers load it: patches that it has are on."""
        comfy.model_management.load_models_gpu([self.model])
        with self.backend.session() as backend:
            yield backend

    @contextmanager
    def erased(self, erasure: Erasure | None) -> Any:
        """The backend in session, with an erasure on where there is one."""
        with self.session():
            if erasure is None:
                yield self.backend
                return
            names = [key.removesuffix(DOWN) for key in erasure.state if key.endswith(DOWN)]
            slices = self.backend.linear_slices(names)
            lora = LoraSet.from_state(slices, erasure.state)
            for parameter in lora.parameters():
                parameter.requires_grad_(False)
            with lora.attach(slices):
                yield self.backend


def quickly(enabled: bool = True) -> torch.autocast:
    """Matrix products in bfloat16."""
    return torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled)
