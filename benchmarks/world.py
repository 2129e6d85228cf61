"""The tiny world in one place: models loaded once, concepts erased, pictures drawn and judged."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from eraseanything_pack.erase_engine.backends.comfy.model import ComfyFlowModel
from eraseanything_pack.erase_engine.backends.comfy.text_encoder import ComfyTextEncoder
from eraseanything_pack.erase_engine.concepts.plan import ConceptPlan
from eraseanything_pack.erase_engine.concepts.planner import plan_concept
from eraseanything_pack.erase_engine.concepts.request import ConceptRequest
from eraseanything_pack.erase_engine.config import EraseConfig
from eraseanything_pack.erase_engine.lora.adapters import LoraSet
from eraseanything_pack.erase_engine.training.encoded_prompts import encode_prompts
from eraseanything_pack.erase_engine.training.loop import Erasure, train_erasure
from eraseanything_pack.tinyworld.draw import draw_pictures
from eraseanything_pack.tinyworld.judge import Judge
from eraseanything_pack.tinyworld.models import load_tiny_flux
from eraseanything_pack.tinyworld.planning import TINY_WORLD
from eraseanything_pack.tinyworld.vocabulary import family
from torch import Tensor

KINDS = {"shape": "object", "colour": "style", "style": "style", "relation": "relation"}
FIRST_SEED = 1_000_000  # of pictures to judge; training seeds are small


class World:
    """Tiny Flux, its text encoders, autoencoder and judge."""

    def __init__(self) -> None:
        self.model, clip, self.vae = load_tiny_flux()
        self.encoder = ComfyTextEncoder(clip)
        self.judge = Judge.load()
        # 88 tokens: keeping activations costs a few megabytes, recomputing them a third more time.
        self.backend = ComfyFlowModel(self.model, checkpointing=False)

    def plan(self, concept: str, *, seed: int = 0, **fields: Any) -> ConceptPlan:
        """What the node plans when only the concept and its kind are filled in."""
        kind = KINDS[family(concept)]
        request = ConceptRequest(concept=concept, kind=kind, seed=seed, **fields)  # type: ignore
        return plan_concept(request, self.encoder, vocabulary=TINY_WORLD)

    def erase(self, plan: ConceptPlan, config: EraseConfig) -> Erasure:
        """Trains at the tiny world's resolution."""
        config = replace(config, width=128, height=128)
        needed = {"contrast": config.weights.rsc > 0, "solve": config.solver == "solve"}
        encoded = encode_prompts(plan, self.encoder, **needed)
        generator = torch.Generator().manual_seed(config.seed)
        with self.backend.session():
            return train_erasure(self.backend, encoded, config, generator=generator)

    def draw(self, prompts: Sequence[str], seed: int, erasure: Erasure | None = None) -> Tensor:
        """Pictures by the base model, or with an erasure on."""
        with self.erased(erasure):
            return draw_pictures(self.backend, self.encoder, self.vae, prompts, seed=seed)

    @contextmanager
    def erased(self, erasure: Erasure | None) -> Any:
        """The backend in session, with an erasure on where there is one."""
        with self.backend.session():
            if erasure is None:
                yield self.backend
                return
            names = [key.removesuffix(".alpha") for key in erasure.state if key.endswith(".alpha")]
            slices = self.backend.linear_slices(names)
            with LoraSet.from_state(slices, erasure.state).attach(slices):
                yield self.backend
