"""An erasure that is solved at the text's entrance, and hardened by attacks on the solution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from torch import Tensor

from ...closed_form.entrance import Entrances
from ..losses import esd_loss
from ..objective import Objective
from ..teacher import FORWARD_AND_BACKWARD
from .gradient import Together, numbers_of
from .shared_attack import SharedAttack

HARD_ENOUGH = 0.8
TEMPERED = "The closed form was trained until it held against its attacks."
HARD = "The closed form holds against the attacks of all rounds."


class Solve:
    """First the closed form; then rounds of attacks, which it has to hold out against as well.

    A step is one search of an attack. After each round what was found joins the rows of the least
    squares, which is solved anew, so that everything that is held is part of every solution. Where
    the entrance can't tell the concept from what is to stay, as with a phrase of two words that
    each stay in other company, it is left alone, and the steps train all adapters on the sum of the
    losses.
    """

    def __init__(self, objective: Objective) -> None:
        model, config = objective.model, objective.config
        assert model.encoded.entrance is not None
        self.objective, self.config, self.ended = objective, config.entrance, ""
        numbers = {"config": self.config, "rank": config.lora.rank}
        self.entrances = Entrances(model.backend, model.encoded.entrance, **numbers)
        self.entrances.solve()
        self.solved = self.entrances.unsolved <= self.config.most_unsolved
        if self.solved or not config.steps:
            self.entrances.put(objective.lora)
        self.attack = SharedAttack(model.encoded, self.config, model.backend.device)
        self.found = self.attack.change.new_zeros(self.config.rounds, *self.attack.change.shape)
        tempering = replace(config, steps=self.config.tempering) if self.solved else config
        trained = replace(objective, model=replace(model, config=tempering))
        if self.solved:
            trained = replace(trained, adversary=self.attack)
        self.training = Together(trained)
        if self.solved:
            self._expect_no_training()

    def step(self, step: int) -> tuple[dict[str, float], float]:
        """A search of an attack, or a step of training."""
        searches = self.objective.config.hardening_steps if self.solved else 0
        if step > searches:
            found = self.training.step(step - searches)
            if self.solved and step - searches >= self.config.tempering:
                self.ended = TEMPERED
            return found
        losses, norm = self._search(step)
        found = numbers_of(losses, [norm], step=step)
        round_, rest = divmod(step, self.config.searches)
        if not rest:
            self.found[round_ - 1] = self.attack.change
            self.entrances.solve(self.found[:round_].flatten(0, 1))
            self.entrances.put(self.objective.lora)
        if step >= self.objective.config.hardening_steps and found[0]["attack"] > HARD_ENOUGH:
            self.ended = HARD
        return found

    def _expect_no_training(self) -> None:
        """Fewer steps than were counted on, and none that preserves."""
        config, count = self.objective.config, self.objective.model.count
        each = FORWARD_AND_BACKWARD * (config.batch + config.keep_per_step)
        hardening = FORWARD_AND_BACKWARD * config.batch * config.hardening_steps
        count.expected += hardening - each * config.steps

    def _search(self, step: int) -> tuple[dict[str, Tensor], Tensor]:
        """Moves the attacks to where the model draws the concept again."""
        objective, model = self.objective, self.objective.model
        if step % self.config.searches == 1 % self.config.searches:
            self.attack.begin(self.entrances.text.undoing(), objective.generator)
        batch = objective.states.erase(objective.config.batch, objective.generator)
        cond, _ = self.attack.attack(batch.rows, objective.generator, share=1.0)
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
        self.training.load({key: one for key, one in tensors.items() if key not in self._own})

    @property
    def _own(self) -> dict[str, Tensor]:
        weight = self.entrances.text.weight
        return {"attack": self.attack.change, "found": self.found, "held": weight}
