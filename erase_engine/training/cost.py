"""What a training costs, in passes of the model."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..config import EraseConfig
from ..entrance_config import SOFTEST
from ..memory import gigabytes
from .encoded_prompts import EncodedPrompts
from .teacher import FORWARD_AND_BACKWARD, keeps

PICTURE = 20  # steps of a sampler, to compare with
GUIDED = (
    "This family draws with guidance (cfg). If your model was distilled to draw without, as Turbo "
    "models are, train the one that it was made from, and apply the LoRA to both."
)
READ_AND_RECOMPUTED = 2  # times that the weights are read for a gradient: blocks run once more


@dataclass(frozen=True)
class _Unit:
    """What is counted: how much of it each part of a training takes."""

    batch: int  # for the erase loss
    keep: int  # for the preserve losses
    trained: int  # times as much with a backward
    pair: int  # for the teacher's answers to concept and anchor, which go in one batch
    paths: int  # of each sort
    keep_paths: int


def expected_forwards(encoded: EncodedPrompts, config: EraseConfig, *, guided: bool) -> int:
    """How many samples a training sends through the model; a backward counts as two.

    Where paths are `guided` without the prompt, each state of a path takes one more.

    Trajectories: `paths` x `trajectory_steps` x (2 for the concept's paths + 2 for the anchor's +
    1 for the keep prompts' + 1 for pictures that are to be drawn). Each step: 3 x `batch` + 3 x
    `keep_per_step` for each of L_keep and L_lora, and for L_rsc `keep_per_step` x (3 + 1 + K). A
    search of an attack: 3 x `batch`.

    Fresh: for trajectories 2; and for the states of each loss but L_lora a path and the teacher's
    answer, which L_rsc reads off its 1 + K paths.
    """
    unit = _Unit(
        batch=config.batch,
        keep=config.keep_per_step,
        trained=FORWARD_AND_BACKWARD,
        pair=2,
        paths=config.paths,
        keep_paths=config.keep_paths,
    )
    return _total(encoded, config, unit, guided=guided)


def weight_reads(encoded: EncodedPrompts, config: EraseConfig, *, guided: bool) -> int:
    """How many times a training reads each weight: once for each batch, twice with a backward.

    Where prompts have several lengths, a batch may be as many passes: this is the most.
    """
    prompts = (encoded.concept, encoded.anchor, encoded.keep)
    lengths = len({len(one.text) for some in prompts for one in some.prompts})
    passes, kept = min(config.batch, lengths), min(config.keep_per_step, lengths)
    unit = _Unit(
        batch=passes,
        keep=kept,
        trained=READ_AND_RECOMPUTED,
        pair=min(2 * config.batch, lengths),
        paths=math.ceil(config.paths / config.batch),
        keep_paths=math.ceil(config.keep_paths / config.batch) * passes,
    )
    return _total(encoded, config, unit, guided=guided)


def _total(encoded: EncodedPrompts, config: EraseConfig, unit: _Unit, *, guided: bool) -> int:
    weights, keep, trained = config.weights, unit.keep, unit.trained
    sampled, state = config.trajectory_steps, 2 if guided else 1  # passes of a state of a path
    fresh, budget = config.sampling == "fresh", config.solver == "budget"
    if not config.steps:
        return 0
    erase = unit.batch * (trained + (sampled * state + unit.pair if fresh else 0))
    preserve = keep * (trained + (sampled * state + 1 if fresh else 0))
    step = erase + (preserve if weights.keep > 0 else 0)
    step += keep * trained if weights.reconstruction > 0 else 0
    if weights.rsc > 0 and encoded.contrast is not None:
        words = 1 + encoded.contrast.per_pair
        step += keep * (trained + words * (sampled * state if fresh else 1))
    kept = unit.keep_paths if keeps(config) else 0
    of_two = unit.pair + state - 1  # a state's answers to concept and anchor, and the way on
    start = unit.pair if fresh else sampled * (2 * of_two * unit.paths + state * kept)
    if weights.reconstruction > 0 and encoded.pictures is None:
        start += unit.paths * sampled * state
    probes = config.steps // config.budget_every if budget else 0
    start += 2 * keep * (sampled * state + 1) if fresh and budget else 0
    steps = config.steps - config.searches
    return start + config.searches * erase + steps * step + probes * 2 * keep


def cost_in_words(encoded: EncodedPrompts, config: EraseConfig, *, guided: bool) -> str:
    """What a training costs, for people, against a picture and the recipe fast; where it may end
    early, at most.

    Previews come on top.
    """

    def most(of: EraseConfig, **known: bool) -> int:
        left = of.for_concepts(encoded.concepts).after_solving(**known)
        return expected_forwards(encoded, left, guided=guided)

    alone = encoded.concepts == 1
    cost, fast = (most(one, phrase=alone) for one in (config, EraseConfig.from_recipe("fast")))
    if not cost:
        return "It takes no pass of the model."
    passes = f"at most {cost:,}" if config.solver == "solve" else f"{cost:,}"
    picture = f"A picture of {PICTURE} steps takes {PICTURE * (2 if guided else 1)}."
    picture += f" {GUIDED}" * guided
    softs = (True,) if config.entrance.soft == SOFTEST else (False, True)
    few = sorted({most(config, solved=True, soft=soft) for soft in softs})
    if few[0] > 0 and few[-1] < cost:
        words = f"Simple words need only {few[0]:,}."
        if len(few) > 1:
            words = f"Simple words need only {few[0]:,} or {few[1]:,}."
        picture = f"{words} {picture}"
    if cost == fast:
        return f"It takes {passes} passes of the model. {picture}"
    more, fewer = f"{cost / fast:.1f} times", f"{cost / fast:.0%} of"
    return (
        f"It takes {passes} passes of the model, {more if cost > fast else fewer} those of the "
        f"recipe fast (at most {fast:,}). {picture}"
    )


def streamed_in_words(
    left: int, encoded: EncodedPrompts, config: EraseConfig, *, guided: bool
) -> str:
    """What it costs, for people, that `left` bytes of the weights find no room on the GPU."""
    times = weight_reads(encoded, config.after_solving(), guided=guided)
    return (
        f"About {gigabytes(left)} of the weights find no room on the GPU beside that: they stay in "
        f"the computer's memory and are copied for each use, at most {times:,} times, "
        f"{gigabytes(left * times)} in all."
    )
