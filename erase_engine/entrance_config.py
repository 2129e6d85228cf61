"""The numbers of a closed form, of its hardening, and of what is done where it can't erase."""

from __future__ import annotations

from dataclasses import dataclass

from .validation import check_ranges, within

MOST_BATCH = 1024
SOFTEST = 100.0  # farther than any way back: takes every solution for soft


@dataclass(frozen=True)
class EntranceConfig:
    """The closed form at the text's entrance, and the attacks that it is hardened against.

    Those that begin with `trained` are of a concept that the closed form can't erase: they multiply
    the training's own numbers. Those that begin with `phrase` take their place, or multiply them
    besides, where as many prompts are kept as a phrase's plan keeps.
    """

    keep: float = within(1.0, 0, 1e6)  # what the mean held token counts
    ridge: float = within(0.1, 1e-9, 1e3)  # of tokens; a share of their mean square
    pooled_ridge: float = within(1e-3, 1e-9, 1e3)
    own_share: float = within(6.0, 0, 1e3)  # what the concept's tokens count, others 1
    most_moved: float = within(0.45, 1e-3, 1e3)  # of a held token, in mean tokens
    most_unsolved: float = within(0.3, 0, 1)  # a concept of which more is left is trained instead
    trained_batch: int = within(2, 1, 100)  # times `batch` and `keep_per_step`, for such a concept
    trained_paths: int = within(4, 1, 100)  # times `trajectories`
    trained_keep_paths: int = within(2, 1, 100)  # times `keep_trajectories`
    phrase_keep_paths: int = within(4, 1, 100)  # times those
    phrase_steps: float = within(1.5, 1, 100)  # times the steps, at most
    phrase_cooldown: float = within(0.4, 0, 1)  # instead of `cooldown`
    phrase_settled: float = within(0.1, 0, 1)  # instead of `settled`
    phrase_attack: float = within(0.25, 0, 10)  # instead of `attack`
    phrase_rank: int = within(2, 1, 32)  # times the rank
    phrase_rate: float = within(1.5, 1e-6, 100)  # times the learning rate
    phrase_beta_2: float = within(0.95, 0, 0.999999)  # instead of `beta_2`
    phrase_importance: float = within(0.7, 0, 1)  # instead of `importance`
    rounds: int = within(4, 0, 1000)  # of attacks; after each it is solved anew
    searches: int = within(5, 1, 1000)  # steps of gradient in a round
    attacks: int = within(4, 1, 1000)  # found in a round, each for all prompts
    radius: float = within(0.5, 1e-3, 10)  # of an attack, in a token's norm
    holds: float = within(0.6, 0, 100)  # share of the change, left by attacks that join nothing
    rate: float = within(0.35, 1e-3, 10)  # share of the radius that a search moves
    tempering: int = within(32, 0, 100_000)  # steps of training under attack, of soft solutions
    soft: float = within(0.28, 0, SOFTEST)  # a change as short, in a token's norm, undoes these
    tempering_rate: float = within(0.8, 1e-6, 100)  # share of the learning rate in them
    tempering_keep: int = within(2, 1, MOST_BATCH)  # keep prompts in one of them
    attack_share: float = within(0.1, 0, 1e3)  # what all attacks of a round count

    def __post_init__(self) -> None:
        check_ranges(self)
