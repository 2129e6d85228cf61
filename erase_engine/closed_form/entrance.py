"""The text's entrance of a model, solved: its words become others before any block has seen them.

    min_D  sum_i s_i |D x_i - W (y_i - x_i)|^2  +  keep mean_k w_k |D k|^2  +  ridge |D|^2

for each Linear W that text features enter the model through. x are tokens of the concept prompts,
y what each of them is to become, k tokens that are to stay. Weights w rise where a held token would
move too far, and the system is solved again.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..config import EntranceConfig
from ..interfaces import Adapters, FlowModel, LinearSlice
from .least_squares import Edit, low_rank_solution
from .own_side import length_of, on_own_side
from .text_rows import Features, TextRows

PASSES = 4  # solutions in a row, each with the weights that the last one's movements ask for
DAMPING = 0.1  # of an attack; a share of the mean square of the weights
FASTEST, EASED, HEAVIEST = 4.0, 1.3, 60.0  # growth of a weight in a pass, its fall, the most


class Entrances:
    """All Linears that text enters a model through, each with its least squares.

    Args:
        model: its Linears are asked for their outputs, and not changed.
        rows: features of the plan's prompts.
        rank: of the solutions.
    """

    def __init__(
        self, model: FlowModel, rows: TextRows, config: EntranceConfig, *, rank: int
    ) -> None:
        slices = model.linear_slices(model.entrances)
        kinds = {"text": (rows.text, config.ridge), "pooled": (rows.pooled, config.pooled_ridge)}
        self._by_name: dict[str, Entrance] = {}
        for name, kind in model.entrances.items():
            features, ridge = kinds[kind]
            if features is not None:
                output = LinearOutput(model, name, slices[name])
                found = Entrance(output, features, config, ridge=ridge, rank=rank)
                self._by_name[name] = found
                if kind == "text":
                    self.text = found
                else:
                    found.solve()

    @property
    def unsolved(self) -> float:
        """Of the concept's tokens, the share of the change they need that is not made."""
        return self.text.unsolved

    @property
    def solved(self) -> bool:
        """Whether so little is left that the solution erases the concept."""
        return self.unsolved <= self.text.config.most_unsolved

    @property
    def soft(self) -> bool:
        """Whether a short way leads back from the solution."""
        return self.text.undoing().norm().item() < self.text.config.soft

    def solve(self, attacks: Tensor | None = None) -> None:
        """Solves the tokens' entrance anew, so that it also holds against `attacks` (K, n)."""
        self.text.solve(attacks)

    def put(self, lora: Adapters) -> None:
        """The solutions as adapters; rows beyond what a narrow Linear can use are 0."""
        state = lora.state_dict()
        for name, found in self._by_name.items():
            a, b = (state[f"{name}.lora_{letter}.weight"].zero_() for letter in "AB")
            used = len(found.down)
            a[:used] = found.down
            b[:, :used] = found.up / (state[f"{name}.alpha"] / len(a)).to(found.up)
        lora.load_state_dict(state)


class LinearOutput:
    """What an entrance adds to its bias: W x, whatever its weights are stored as."""

    def __init__(self, model: FlowModel, name: str, part: LinearSlice) -> None:
        self.device = model.device if model.device.type != "mps" else torch.device("cpu")
        self._model, self._name, self._part = model, name, part

    def given(self, text: Tensor) -> Tensor:
        """(N, n) text features to what the Linear is given, float32 on `device`."""
        return self._model.entering(self._name, text).to(self.device, torch.float32)

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """(N, n) to (N, m), float32 on `device`."""
        x = x.to(self._model.device, self._model.dtype)
        ask, part = self._part.module, self._part
        found = ask(x) - ask(torch.zeros_like(x[:1]))
        return found[:, part.start : part.start + part.length].to(self.device, torch.float32)


class Entrance:
    """The least squares of one Linear; `down` (r, n) and `up` (m, r) are its last solution.

    `weight` (M,) is what each held row counts.
    """

    def __init__(
        self,
        output: LinearOutput,
        rows: Features,
        config: EntranceConfig,
        *,
        ridge: float,
        rank: int,
    ) -> None:
        self.config, self.ridge, self.rank = config, ridge, rank
        self.own = rows.own.to(output.device)
        self.text = rows.concept[rows.own].to(output.device, torch.float32)
        self.others = rows.held.to(output.device, torch.float32)  # as encoded
        concept, anchor, self.held = map(output.given, (rows.concept, rows.anchor, rows.held))
        share = torch.where(self.own, config.own_share, 1.0)
        self.edit = Edit(concept, output(anchor - concept), share)
        self.weight = torch.ones(len(self.held), device=output.device)
        self._output = output
        self._size = output(self.held - self.held.mean(0)).norm(dim=1).mean()

    def solve(self, attacks: Tensor | None = None) -> None:
        """Solves PASSES times; in between, rows that move by more than `most_moved` count more.

            w <- clamp(w (|D k| / most_moved)^2, 1, HEAVIEST)

        Others count less again, so that a weight is what its limit costs: its multiplier.
        """
        edit = self.edit if attacks is None else self.edit.beside(self._attacked(attacks))
        for left in reversed(range(PASSES)):
            self.down, self.up = low_rank_solution(
                edit,
                self.held,
                self.weight,
                rank=self.rank,
                keep=self.config.keep,
                ridge=self.ridge,
            )
            if left:
                moved = (self.held @ self.down.T @ self.up.T).norm(dim=1) / self._size
                growth = (moved / self.config.most_moved).square().clamp(1 / EASED, FASTEST)
                self.weight.mul_(growth).clamp_(1, HEAVIEST)

    @property
    def unsolved(self) -> float:
        """Of the concept's tokens, the share of the change they need that is not made."""
        wanted = self.edit.change[self.own]
        left = wanted - self.edit.x[self.own] @ self.down.T @ self.up.T
        return (left.square().sum() / wanted.square().sum()).item()

    def undoing(self) -> Tensor:
        """(n,) the change of a concept's token, in shares of its norm, that undoes the solution.

        Where features are normed on their way, each is taken to be scaled as it is at the token.

        u = mean_i d_i / |x_i|,   d_i = argmin |(W + B A) (x_i + d) - W x_i|^2 + damping |d|^2
        """
        x, text = self.edit.x[self.own].double(), self.text.double()
        down, up = self.down.double(), self.up.double()
        every = torch.eye(x.shape[1], device=x.device)
        new = self._output(every).T.double() + up @ down  # (m, n)
        gram = new.T @ new
        gram.diagonal().add_(DAMPING * gram.diagonal().mean())
        lost = -(x @ down.T @ up.T)  # W x - (W + B A) x
        change = torch.linalg.solve(gram, new.T @ lost.T).T
        scale = torch.where(text == 0, 1.0, x / text)
        change = torch.where(scale == 0, 0.0, change / scale)
        return (change / text.norm(dim=1, keepdim=True)).mean(0).float()

    def _attacked(self, attacks: Tensor) -> Edit:
        """(token + attack) is to become what the token becomes; attacks in shares of its norm."""
        text, change = self.text, self.edit.change[self.own]
        length = length_of(text)
        moved = [
            self._output.given(text + on_own_side(length * attack, text, self.others))
            for attack in attacks.to(text)
        ]
        share = self.config.attack_share * self.config.own_share / self.config.attacks
        return Edit(
            torch.cat(moved),
            change.repeat(len(attacks), 1),
            text.new_full((len(text) * len(attacks),), share),
        )
