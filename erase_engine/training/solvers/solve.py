"""An erasure that is solved at the text's entrance, and hardened by attacks on the solution."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor

from ...closed_form.entrance import Entrances
from ..losses import esd_loss
from ..objective import Objective
from ..teacher import CountedModel
from .gradient import Together, numbers_of
from .shared_attack import SharedAttack

ALONE = "It was solved only: nobody looked for ways to bring the concept back, and there are some."
HARDENED = "Ways to bring the concept back were searched for; those found were closed."
TEMPERED = (
    "Ways to bring the concept back were searched for, and training closed those that it could; "
    "some may stay open."
)
# Kinds that are undone by degrees, as from a style to another. A relation is in the tokens of two
# things as well, which the entrance alone can't move.
BY_DEGREES = ("style", "relation")


def entrances_of(model: CountedModel) -> Entrances:
    """The closed form of the plan, at no pass of the model."""
    assert model.encoded.entrance is not None
    numbers = {"config": model.config.entrance, "rank": model.config.lora.rank}
    found = Entrances(model.backend, model.encoded.entrance, **numbers)
    found.solve()
    return found


class Solve:
    """First the closed form; then rounds of attacks, which it has to hold out against as well.

    A step is one search of an attack. After each round what was found joins the rows of the least
    squares, which is solved anew, so that everything that is held is part of every solution. What
    brings too little of the concept back joins nothing: it would move the solution for no gain.
    Where it is soft, some steps then train all adapters under attack, from the solution on.

    Where the entrance can't tell the concept from what is to stay, as with a phrase of two words
    that each stay in other company, it is left alone, and the steps train all adapters; of a
    phrase the last ones under attack.
    """

    def __init__(self, objective: Objective) -> None:
        model, config = objective.model, objective.config
        assert objective.entrances is not None
        self.objective, self.config, self.searches = objective, config.entrance, config.searches
        self.entrances, self.solved = objective.entrances, objective.entrances.solved
        if self.solved or not config.steps:
            self.entrances.put(objective.lora)
        self.steps = config.steps - self.searches  # of training
        training = replace(model, config=replace(config, steps=self.steps))
        objective = replace(objective, model=training)
        if self.solved:
            held, device = self.entrances.text.others, model.backend.device
            self.attack = SharedAttack(model.encoded, self.config, device, held=held)
            objective = replace(objective, adversary=self.attack)
        self._own = self._state_of_rounds() if self.solved else {}
        self.training = Together(objective)

    @property
    def last(self) -> int:
        """The step after which it ends, as far as is known."""
        return self.searches + self.training.last

    @property
    def ended(self) -> str:
        """What was made of the closed form, or why the training in its place ended sooner; "" where
        this took all steps.
        """
        if not self.solved:
            return self.training.ended
        return TEMPERED if self.steps else HARDENED if self.searches else ALONE

    def step(self, step: int) -> tuple[dict[str, float], float]:
        """A search of an attack, or a step of training."""
        if step > self.searches:
            return self.training.step(step - self.searches)
        losses, norm = self._search(step)
        found = numbers_of(losses, [norm], step=step)
        self._own["holds"].clamp_(max=found[0]["attack"])
        if step % self.config.searches == 0:
            self._end_round(step // self.config.searches)
        return found

    def _end_round(self, count: int) -> None:
        """What was found joins the rows, unless the solution holds out against it; `count` rounds
        are done.
        """
        if self._own["holds"] < self.config.holds:
            found = self._own["found"]
            found[count - 1] = self.attack.change
            self.entrances.solve(found[found.any(dim=-1)])
            self.entrances.put(self.objective.lora)
            self._own["undoing"].copy_(self._undoing(count))

    def _undoing(self, done: int) -> Tensor:
        """(n,) the way back, after so many rounds; 0 where no other comes."""
        if done * self.config.searches >= self.searches:
            return torch.zeros_like(self.attack.change[0])
        with self.objective.lora.disabled():  # it has the solution apart from the weights
            return self.entrances.text.undoing().to(self.attack.change)

    def _state_of_rounds(self) -> dict[str, Tensor]:
        change, text = self.attack.change, self.entrances.text
        return {
            "attack": change,
            "found": change.new_zeros(self.config.rounds, *change.shape),
            "undoing": self._undoing(0),  # where the next round's attacks begin
            "held": text.weight,
            "holds": torch.tensor(math.inf),  # the least of a round
        }

    def _search(self, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """Moves the attacks to where the model draws the concept again."""
        objective, model = self.objective, self.objective.model
        if step % self.config.searches == 1 % self.config.searches:
            self.attack.begin(self._own["undoing"], objective.generator)
            self._own["holds"].fill_(math.inf)
        batch = objective.states.erase(objective.config.batch, objective.generator)
        cond, _ = self.attack.attack(batch.rows, objective.generator, share=1.0)
        v, _ = model.velocity(batch.x_t, batch.t, cond, None)
        v_concept, v_anchor = batch.teacher_velocity.to(v).unbind(dim=1)
        towards = esd_loss(v, v_concept).mean()
        norm = self.attack.descend(towards * self.training.optimizer.loss_scale)
        held_out = towards.detach() / esd_loss(v_anchor, v_concept).mean()
        return {"esd": esd_loss(v, v_anchor).mean().detach(), "attack": held_out}, norm

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
