"""An erasure that is solved at the text's entrance, and hardened by attacks on the solution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ...closed_form.entrance import Entrances
from ...config import EraseConfig
from ..losses import esd_loss
from ..objective import Objective
from ..teacher import FORWARD_AND_BACKWARD, CountedModel
from .gradient import Together, numbers_of
from .moved_text import SHARE
from .shared_attack import SharedAttack

ENDINGS = (
    "",
    "The closed form was hardened against attacks.",
    "The closed form was hardened, and trained against its attacks as far as that is worth it.",
    "The closed form alone: attacks are not searched for, and may bring a concept back.",
)


def solved_entrances(model: CountedModel) -> Entrances:
    """The closed form of the plan, at no pass of the model."""
    assert model.encoded.entrance is not None
    numbers = {"config": model.config.entrance, "rank": model.config.lora.rank}
    found = Entrances(model.backend, model.encoded.entrance, **numbers)
    found.solve()
    return found


class Solve:
    """First the closed form; then rounds of attacks, which it has to hold out against as well.

    A step is one search of an attack. After each round what was found joins the rows of the least
    squares, which is solved anew, so that everything that is held is part of every solution. Where
    that is soft, some steps then train all adapters under attack, from the solution on.

    Where the entrance can't tell the concept from what is to stay, as with a phrase of two words
    that each stay in other company, it is left alone, and the steps train all adapters.
    """

    def __init__(self, objective: Objective) -> None:
        model, config = objective.model, objective.config
        assert objective.entrances is not None
        self.objective, self.config = objective, config.entrance
        self.entrances, self.solved = objective.entrances, objective.entrances.solved
        if self.solved or not config.steps:
            self.entrances.put(objective.lora)
        # L_attn is of prompts as people write them: where it counts, half of them stay so.
        share = SHARE if config.weights.attention else 1.0
        held, device = self.entrances.text.others, model.backend.device
        self.attack = SharedAttack(model.encoded, self.config, device, held=held, share=share)
        self.searches = config.hardening_steps if self.solved else 0
        self.steps = config.steps - self.searches  # of training
        if self.solved:
            self.steps = min(self.steps, self.config.tempering)
        trained = replace(objective, model=replace(model, config=self._training_config()))
        self.training = Together(replace(trained, adversary=self.attack if self.solved else None))
        self._start_own_state()
        # Of the passes that were counted on, not those of steps that only search or are not taken.
        counted = config.steps * (config.batch + config.keep_per_step)
        taken = self.steps * (config.batch + trained.config.keep_per_step)
        spared = counted - taken - self.searches * config.batch
        model.count.expected -= FORWARD_AND_BACKWARD * spared

    def _training_config(self) -> EraseConfig:
        """Of the steps that train: slower, and with fewer keep prompts, where all is solved."""
        config, entrance = replace(self.objective.config, steps=self.steps), self.config
        if not self.solved:
            return config
        return replace(
            config,
            learning_rate=entrance.tempering_rate * config.learning_rate,
            keep_per_step=min(entrance.tempering_keep, config.keep_per_step),
        )

    @property
    def ended(self) -> str:
        """Why nothing is left to do."""
        return ENDINGS[int(self._own["ending"])]

    def step(self, step: int) -> tuple[dict[str, float], float]:
        """A search of an attack, or a step of training."""
        if step > self.searches:
            found = self.training.step(step - self.searches)
            if self.solved and step - self.searches >= self.steps:
                self._own["ending"].fill_(2)
            return found
        losses, norm = self._search(step)
        found = numbers_of(losses, [norm], step=step)
        if step % self.config.searches == 0:
            self._end_round(step // self.config.searches)
        if step == self.searches and not (self.steps and self._soft):
            self._own["ending"].fill_(1)
        return found

    def _end_round(self, count: int) -> None:
        """What was found joins the rows; `count` rounds are done."""
        self._own["found"][count - 1] = self.attack.change
        self.entrances.solve(self._own["found"][:count].flatten(0, 1))
        self.entrances.put(self.objective.lora)
        self._own["undoing"].copy_(self._undoing(count))

    def _undoing(self, done: int) -> Tensor:
        """(n,) `_way_back`, after so many rounds; 0 where no other comes."""
        if done * self.config.searches < self.searches:
            return self._way_back().to(self.attack.change)
        return torch.zeros_like(self.attack.change[0])

    def _way_back(self) -> Tensor:
        """(n,) `Entrance.undoing`, which has the solution apart from the model's own weights."""
        with self.objective.lora.disabled():
            return self.entrances.text.undoing()

    @property
    def _soft(self) -> bool:
        """Whether a short way leads back, or one by degrees, as from a style to another.

        A relation is in the tokens of two things as well, which the entrance alone can't move.
        """
        shortest = self._way_back().norm().item()
        by_degrees = self.objective.model.encoded.kind in ("style", "relation")
        return by_degrees or shortest < self.config.soft

    def _start_own_state(self) -> None:
        change, text = self.attack.change, self.entrances.text
        alone = self.solved and not self.searches and not self.steps
        self._own = {
            "ending": torch.tensor(3.0 if alone else 0.0),  # place in ENDINGS
            "attack": change,
            "found": change.new_zeros(self.config.rounds, *change.shape),
            "undoing": self._undoing(0),  # where the next round's attacks begin
            "held": text.weight,
        }

    def _search(self, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """Moves the attacks to where the model draws the concept again."""
        objective, model = self.objective, self.objective.model
        if step % self.config.searches == 1 % self.config.searches:
            self.attack.begin(self._own["undoing"], objective.generator)
        batch = objective.states.erase(objective.config.batch, objective.generator)
        cond, _ = self.attack.attack(batch.rows, objective.generator)
        v, _ = model.velocity(batch.x_t, batch.t, cond, None)
        v_concept, v_anchor = batch.teacher_velocity.to(v).unbind(dim=1)
        towards = esd_loss(v, v_concept)
        norm = self.attack.descend(towards * self.training.optimizer.loss_scale)
        held_out = towards.detach() / esd_loss(v_anchor, v_concept)
        return {"esd": esd_loss(v, v_anchor).detach(), "attack": held_out}, norm

    @property
    def unsolved(self) -> float:
        """Of the change that the concept's tokens need, the share that is not made."""
        return self.entrances.unsolved

    def tensors(self) -> dict[str, Tensor]:
        """All that a step depends on besides the LoRA and the generator; no copies."""
        return self.training.tensors() | self._own

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Takes copies of what `tensors` gave; KeyError or ValueError where some are missing."""
        for name, tensor in self._own.items():
            tensor.copy_(tensors[name])
        apart = self._own.keys() - {"attack"}  # which what trains has, too
        self.training.load({key: one for key, one in tensors.items() if key not in apart})
