"""The numbers of one erasure: frozen, checked once, and the table of recipes they come from."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from types import MappingProxyType
from typing import Any, Literal, get_args

from .entrance_config import MOST_BATCH, SOFTEST, EntranceConfig
from .interfaces import PIXELS_PER_TOKEN
from .validation import (
    check_blocks,
    check_choice,
    check_fields,
    check_number,
    check_ranges,
    read_json,
    within,
)

Targets = Literal[
    "text_in", "text_in_pooled", "text_qk", "dual_qk", "text_all", "text_pooled", "all_attention"
]
AdapterInit = Literal["kaiming", "gaussian"]
Solver = Literal["alternate", "budget", "solve"]
EraseForm = Literal["esd", "hinge"]
AttentionForm = Literal["ratio", "sum"]
Sampling = Literal["cached", "fresh"]
Blocks = Literal["all"] | tuple[int, ...]

DRAWS_PER_PATH = 2  # at the least: a path that fewer states are drawn from is not worth sampling
MOST_RANK, MOST_PATHS, MOST_STEPS = 256, 4096, 100_000
SHARED = ("keep", "ridge", "pooled_ridge")  # between several concepts of one closed form


@dataclass(frozen=True)
class LoraConfig:
    """The adapter: its output counts alpha / rank; `alpha` is `rank` where not given."""

    rank: int = within(8, 1, MOST_RANK)
    alpha: float | None = None
    targets: Targets = "text_qk"
    init: AdapterInit = "kaiming"

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.alpha is None:
            object.__setattr__(self, "alpha", float(self.rank))
        check_number("alpha", self.alpha, low=1e-6, high=1e6)
        check_choice("targets", self.targets, get_args(Targets))
        check_choice("init", self.init, get_args(AdapterInit))

    def times(self, count: int) -> LoraConfig:
        """`count` times the rank, as strong."""
        rank, alpha = min(count * self.rank, MOST_RANK), self.alpha or self.rank
        return replace(self, rank=rank, alpha=alpha * rank / self.rank)


@dataclass(frozen=True)
class LossWeights:
    """What each loss counts for; 0 leaves it out, and what only it needs is not computed."""

    esd: float = within(1.0, 0)
    attention: float = within(0.0, 0)
    keep: float = within(1.0, 0)
    rsc: float = within(0.0, 0)
    reconstruction: float = within(0.0, 0)  # on pictures to keep, given or drawn by the model

    def __post_init__(self) -> None:
        check_ranges(self)
        if self.esd == 0 and self.attention == 0:
            raise ValueError(
                "Got weights 0 for both esd and attention, expected one above 0: nothing would "
                "be erased. Give one of them a weight, for example esd=1."
            )


@dataclass(frozen=True, kw_only=True)
class EraseConfig:
    """Everything a training run depends on besides the model and the concept plan.

    Raises ValueError, naming the field, where a value is out of its range.
    """

    recipe: str = "fast"
    solver: Solver = "alternate"
    negative_guidance: float = within(1.0, 0, 100)  # eta; 0 stops at the anchor's picture
    steps: int = within(200, 0, MOST_STEPS)  # each erases once and preserves once
    batch: int = within(4, 1, MOST_BATCH)
    learning_rate: float = within(2e-3, 1e-9, 1)
    rate_width: int = within(0, 0, 100_000)  # an A of n inputs learns at rate_width / n; 0: at 1
    beta_2: float = within(0.999, 0, 0.999999)  # AdamW's, of the mean of squared gradients
    cooldown: float = within(0.0, 0, 1)  # share of the steps in which the rate falls to 0
    settled: float = within(0.0, 0, 1)  # share of L_esd's first that starts it; needs `importance`
    keep_learning_rate_ratio: float = within(0.5, 0, 10)  # preserve step's rate / erase step's
    weight_decay: float = within(0.0, 0, 1)
    gradient_clip: float = within(1.0, 0)  # norm of all LoRA gradients together; 0 is no limit
    weights: LossWeights = field(default_factory=LossWeights)
    erase_form: EraseForm = "esd"  # the target of ESD, or GEM's hinge; weighed by weights.esd
    early: float = within(1.0, 1e-3, 1)  # first share of each path that erase steps look at
    attack: float = within(0.0, 0, 10)  # radius of the adversary, share of a token's norm; 0: none
    attack_rate: float = within(0.5, 1e-3, 10)  # share of the radius that it moves in one step
    attention_form: AttentionForm = "ratio"  # mass over the teacher's mass, or the bare sum
    attention_others: float = within(0.0, 0, 100)  # in L_attn's ratio: what the other words count
    attention_blocks: Blocks = "all"  # double blocks whose attention is read; -1 is the last
    keep_per_step: int = within(4, 1, MOST_BATCH)  # keep prompts in one preserve step
    drift_budget: float = within(0.01, 0)  # the L_keep that the budget solver allows
    budget_rate: float = within(1.0, 0)  # beta: how fast the multiplier follows the drift
    budget_every: int = within(10, 1, 100_000)  # steps between two measurements of the drift
    rsc_temperature: float = within(0.07, 1e-3, 100)
    importance: float = within(0.0, 0, 1)  # share of draws from cached paths that go by it
    sampling: Sampling = "cached"  # states of cached paths; or fresh: of one sampled for each
    trajectories: int = within(8, 1, MOST_PATHS)  # most paths or pictures to sample
    keep_trajectories: int = within(0, 0, MOST_PATHS)  # of keep prompts; 0: `trajectories`
    trajectory_steps: int = within(20, 1, 1000)
    guidance: float | None = 3.0  # input of guidance-distilled models; None: the model has none
    width: int = within(512, PIXELS_PER_TOKEN, 8192)  # pixels
    height: int = within(512, PIXELS_PER_TOKEN, 8192)  # pixels
    entrance: EntranceConfig = field(default_factory=EntranceConfig)  # of the solver "solve"
    lora: LoraConfig = field(default_factory=LoraConfig)
    seed: int = within(0, 0, 2**64 - 1)

    def __post_init__(self) -> None:
        check_ranges(self)
        check_choice("recipe", self.recipe, tuple(RECIPES))
        check_choice("solver", self.solver, get_args(Solver))
        check_choice("erase_form", self.erase_form, get_args(EraseForm))
        check_choice("attention_form", self.attention_form, get_args(AttentionForm))
        check_choice("sampling", self.sampling, get_args(Sampling))
        if self.guidance is not None:
            check_number("guidance", self.guidance, low=0, high=100)
        check_side("width", self.width)
        check_side("height", self.height)
        check_blocks("attention_blocks", self.attention_blocks)

    @property
    def searches(self) -> int:
        """How many of the steps search for attacks on a closed form, in whole rounds."""
        each, rounds = self.entrance.searches, self.entrance.rounds
        return each * min(self.steps // each, rounds) if self.solver == "solve" else 0

    @property
    def paths(self) -> int:
        """Paths of each sort: a short training needs fewer than `trajectories`."""
        return min(self.trajectories, math.ceil(self.steps * self.batch / DRAWS_PER_PATH))

    @property
    def keep_paths(self) -> int:
        """Paths of keep prompts, limited alike; a search of an attack needs none."""
        draws = (self.steps - self.searches) * self.keep_per_step
        return min(self.keep_trajectories or self.trajectories, math.ceil(draws / DRAWS_PER_PATH))

    def for_concepts(self, count: int) -> EraseConfig:
        """What a closed form of several concepts takes: `count` times the rank, and a share of each
        one's `keep` and ridges, since each has 1 / `count` of the rows that are to change. It is
        not hardened: attacks that all concepts share bring some of them back.
        """
        if self.solver != "solve" or count == 1:
            return self
        shares = {name: getattr(self.entrance, name) / count for name in SHARED}
        entrance = replace(self.entrance, **shares, rounds=0, tempering=0)
        return replace(self, lora=self.lora.times(count), entrance=entrance)

    def after_solving(
        self, *, solved: bool = False, soft: bool = False, phrase: bool = True
    ) -> EraseConfig:
        """What a closed form leaves to do: rounds of attacks, and steps under attack where it is
        `soft`. A concept that is not `solved` by it is trained, by larger steps on more paths.

        Those of a `phrase`, of which many prompts are kept, are drawn by importance, which takes
        neighbours along where few are kept; and it has more ranks.
        """
        entrance, keep = self.entrance, self.keep_trajectories or self.trajectories
        if self.solver != "solve" or not self.steps:
            return self
        if not solved:
            trained = replace(
                self,
                batch=min(entrance.trained_batch * self.batch, MOST_BATCH),
                keep_per_step=min(entrance.trained_batch * self.keep_per_step, MOST_BATCH),
                trajectories=min(entrance.trained_paths * self.trajectories, MOST_PATHS),
                keep_trajectories=min(entrance.trained_keep_paths * keep, MOST_PATHS),
                entrance=replace(entrance, rounds=0),
            )
            return trained._of_a_phrase() if phrase else trained
        soft |= not self.searches  # where there is no time for a round of attacks
        return replace(
            self,
            steps=self.searches + soft * min(self.steps - self.searches, entrance.tempering),
            settled=0.0,  # all of them under attack
            learning_rate=entrance.tempering_rate * self.learning_rate,
            keep_per_step=min(entrance.tempering_keep, self.keep_per_step),
        )

    def _of_a_phrase(self) -> EraseConfig:
        entrance = self.entrance
        return replace(
            self,
            steps=min(math.ceil(entrance.phrase_steps * self.steps), MOST_STEPS),
            cooldown=entrance.phrase_cooldown,
            settled=entrance.phrase_settled,
            attack=entrance.phrase_attack,
            learning_rate=min(entrance.phrase_rate * self.learning_rate, 1.0),
            beta_2=entrance.phrase_beta_2,
            importance=entrance.phrase_importance,
            keep_trajectories=min(entrance.phrase_keep_paths * self.keep_trajectories, MOST_PATHS),
            lora=self.lora.times(entrance.phrase_rank),
        )

    def watched_blocks(self, count: int) -> tuple[int, ...]:
        """Numbers of the blocks whose attention is read, of `count`; ValueError for others."""
        check_blocks("attention_blocks", self.attention_blocks, count)
        chosen = range(count) if self.attention_blocks == "all" else self.attention_blocks
        return tuple(index % count if index < 0 else index for index in chosen)

    @classmethod
    def from_recipe(cls, name: str = "fast", **overrides: Any) -> EraseConfig:
        """The recipe's numbers with some replaced; ValueError for an unknown recipe or field."""
        check_choice("recipe", name, tuple(RECIPES))
        return cls(**check_fields({**RECIPES[name], **overrides, "recipe": name}, cls))

    def to_json(self) -> str:
        """One line of JSON that `from_json` turns into an equal config."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> EraseConfig:
        """The config that `to_json` wrote; raises ValueError where the text is not one."""
        values = read_json(text, cls)
        for name, kind in _PARTS.items():
            if name in values:
                values[name] = kind(**check_fields(values[name], kind))
        if isinstance(values.get("attention_blocks"), list):
            values["attention_blocks"] = tuple(values["attention_blocks"])
        return cls(**values)


_PARTS = {"weights": LossWeights, "lora": LoraConfig, "entrance": EntranceConfig}

# A recipe lists what differs from the defaults above.
FAST: Mapping[str, Any] = MappingProxyType(
    {
        "solver": "solve",
        "negative_guidance": 0.0,
        "steps": 160,  # a word ends by itself after 20 or 52
        "batch": 4,
        "keep_per_step": 4,
        "learning_rate": 6e-3,
        "rate_width": 192,  # of the model that the rate was found on
        "cooldown": 0.7,
        "trajectories": 12,
        "keep_trajectories": 40,
        "trajectory_steps": 4,
        "weights": LossWeights(esd=1.0, keep=6.0),
        "lora": LoraConfig(targets="text_in_pooled"),
    }
)
# More is trained under attack: all words that are solved; phrases for longer, by stronger attacks.
HARDER = EntranceConfig(
    soft=SOFTEST, tempering=64, phrase_steps=2.0, phrase_cooldown=0.6, phrase_attack=0.4
)
# `paper` is the paper with its release's schedule, 100 erase steps and 100 preserve steps of one
# sample, and its release's weights; its learning rate suits the hotter gaussian adapters only.
RECIPES: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "instant": {
            "solver": "solve",
            "steps": 0,
            "negative_guidance": 0.0,
            "lora": LoraConfig(targets="text_in"),
        },
        "fast": FAST,
        "hardened": {**FAST, "entrance": HARDER},
        "paper": {
            "steps": 100,
            "learning_rate": 1e-3,
            "weight_decay": 1e-5,
            "gradient_clip": 0.0,
            "batch": 1,
            "keep_per_step": 1,
            "sampling": "fresh",
            "trajectory_steps": 28,
            "attention_form": "sum",
            "attention_blocks": (-1,),
            "weights": LossWeights(esd=1.0, attention=1e-3, keep=0.0, rsc=0.1, reconstruction=0.1),
            "lora": LoraConfig(init="gaussian"),
        },
    }
)


def check_side(name: str, pixels: int) -> None:
    """ValueError where image tokens don't cover a side evenly."""
    if left := pixels % PIXELS_PER_TOKEN:
        fit = f"a multiple of {PIXELS_PER_TOKEN}. Use {pixels - left}."
        raise ValueError(f"Got {name} {pixels} pixels, expected {fit}")
