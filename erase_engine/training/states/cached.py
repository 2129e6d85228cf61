"""States of paths that the teacher has sampled before the first step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from torch import Generator, Tensor

from ...config import EraseConfig
from ...interfaces import Adapters
from ..importance import Importance
from ..teacher import CountedModel, Trajectories
from ..trajectories import TrainingBatch
from .pictures import NoisyPictures


@dataclass(frozen=True)
class ContrastBatch:
    """States for one L_rsc, with the teacher's attention to the words that are contrasted."""

    x_t: Tensor  # (B, C, h, w) where the concept's attention is read
    t: Tensor  # (B,)
    rows: Tensor  # (B,) the concept prompt of each
    synonym: Tensor  # (B, G, L) F of the synonym
    irrelevant: Tensor  # (B, K, G, L) F of the irrelevant concepts


@dataclass(frozen=True)
class CachedStates:
    """Draws from what was sampled once, and asks the teacher for its attention there."""

    model: CountedModel
    lora: Adapters
    trajectories: Trajectories
    on_pass: Callable[[], None]  # called after each pass that samples; may raise to cancel
    importance: Mapping[str, Importance] = field(default_factory=dict)  # of L_esd's, L_keep's paths

    def erase(self, count: int, generator: Generator) -> TrainingBatch:
        """States of the concept's and the anchor's paths."""
        early, importance = self.model.config.early, self.importance.get("erase")
        return self.trajectories.erase.draw(count, generator, early=early, importance=importance)

    def keep(self, count: int, generator: Generator) -> TrainingBatch:
        """States of the keep prompts' paths."""
        assert self.trajectories.keep is not None
        return self.trajectories.keep.draw(count, generator, importance=self.importance.get("keep"))

    def contrast(self, count: int, generator: Generator) -> ContrastBatch:
        """One state for all of a sentence's words: the concept, its synonym, K irrelevant ones."""
        model, contrast = self.model, self.model.encoded.contrast
        assert contrast is not None
        batch = self.trajectories.erase.draw(count, generator)
        x_t, t, rows, k = batch.x_t, batch.t, batch.rows, contrast.per_pair
        several = (rows[:, None] * k + torch.arange(k)).flatten()
        with torch.no_grad(), self.lora.disabled():
            synonym = model.feature(x_t, t, contrast.synonym, contrast.synonym_tokens, rows)
            x_k, t_k = x_t.repeat_interleave(k, 0), t.repeat_interleave(k)
            others = model.feature(
                x_k, t_k, contrast.irrelevant, contrast.irrelevant_tokens, several
            )
        return ContrastBatch(x_t, t, rows, synonym, others.unflatten(0, (count, k)))

    def pictures(self, count: int, generator: Generator) -> NoisyPictures:
        """Noisy pictures of what is to be kept."""
        assert self.trajectories.pictures is not None
        return self.trajectories.pictures.draw(count, generator)

    def tensors(self) -> dict[str, Tensor]:
        """All that draws depend on besides the generator; no copies."""
        return {
            f"{kind}.{name}": tensor
            for kind, importance in self.importance.items()
            for name, tensor in importance.tensors().items()
        }


def importance_of(trajectories: Trajectories | None, config: EraseConfig) -> dict[str, Importance]:
    """Of cached paths; none where all are drawn alike."""
    if trajectories is None or config.sampling == "fresh" or not config.importance:
        return {}
    caches = {"erase": trajectories.erase, "keep": trajectories.keep}
    return {
        kind: Importance(len(cache.rows), share=config.importance)
        for kind, cache in caches.items()
        if cache is not None
    }
