"""The loop: it erases, it keeps, it repeats itself exactly, and it ends cleanly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from erase_engine.config import RECIPES, EraseConfig, LossWeights
from erase_engine.interfaces import AttentionCapture, Conditioning
from erase_engine.lora.adapters import LoraSet
from erase_engine.training.cost import expected_forwards
from erase_engine.training.encoded_prompts import EncodedPrompts
from erase_engine.training.loop import Erasure, StepReport, train_erasure
from erase_engine.training.losses import attention_mass
from erase_engine.training.objective import Objective
from erase_engine.training.solvers import optimizer

FAST = EraseConfig(
    weights=LossWeights(esd=1.0, attention=0.1, keep=1.0, rsc=0.01),
    steps=40,
    batch=4,
    learning_rate=0.02,
    trajectories=4,
    trajectory_steps=4,
    width=32,
    height=32,
)
HINGE = {"erase_form": "hinge", "early": 0.5, "weights": LossWeights(keep=0)}


def train(backend: Any, encoded: EncodedPrompts, seed: int = 0, **changes: Any) -> Erasure:
    on_step = changes.pop("on_step", lambda report: None)
    config = replace(FAST, **changes)
    generator = torch.Generator().manual_seed(seed)
    return train_erasure(backend, encoded, config, generator=generator, on_step=on_step)


def ends(values: list[float], count: int = 8) -> tuple[float, float]:
    """Means of the first and of the last values."""
    return sum(values[:count]) / count, sum(values[-count:]) / count


@pytest.mark.parametrize("solver", ["alternate", "budget"])
def test_the_erase_losses_fall_and_the_drift_stays_small(small_flow, encoded, solver) -> None:
    history = train(small_flow, encoded, solver=solver, drift_budget=0.02).history
    before, after = ends(history["esd"])
    assert after < 0.7 * before
    assert ends(history["attention"])[1] < 0.9
    assert ends(history["keep"])[1] < 0.1 * before


def test_weight_decay_draws_the_lora_to_nothing(small_flow, encoded) -> None:
    """As AdamW has it: each step takes rate * decay of every number."""

    def size(decay: float) -> float:
        state = train(small_flow, encoded, weight_decay=decay, steps=20).state
        return sum(each.square().sum().item() for key, each in state.items() if "lora_A" in key)

    assert size(1.0) < 0.9 * size(0.0)


def test_a_gradient_that_is_no_number_is_named_though_its_losses_are(
    small_flow, encoded, monkeypatch
) -> None:
    monkeypatch.setattr(optimizer, "clip_grad_norm_", lambda *given: torch.tensor(torch.inf))
    with pytest.raises(FloatingPointError, match=r"gradient whose norm is inf in step 1.*Lower"):
        train(small_flow, encoded, steps=2)


def test_keeping_keeps(small_flow, encoded) -> None:
    """The drift of an erasure that is told to keep, against one that is not."""
    weights = FAST.weights
    kept = train(small_flow, encoded).history["keep"]
    loose = train(small_flow, encoded, weights=replace(weights, keep=1e-6)).history["keep"]
    assert ends(kept)[1] < 0.7 * ends(loose)[1]


def test_rsc_falls_where_it_counts_alone_in_preserving(small_flow, encoded) -> None:
    weights = LossWeights(esd=1e-6, attention=0, keep=0, rsc=1.0)
    before, after = ends(train(small_flow, encoded, weights=weights).history["rsc"])
    assert after < before


@pytest.mark.parametrize("solver", ["alternate", "budget"])
def test_one_generator_one_lora(small_flow, encoded, solver) -> None:
    one, same, other = (
        train(small_flow, encoded, seed, solver=solver, steps=5) for seed in (0, 0, 1)
    )
    assert one.history == same.history
    assert all(torch.equal(one.state[key], same.state[key]) for key in one.state)
    weights = [key for key in one.state if key.endswith("weight")]
    assert not any(torch.equal(one.state[key], other.state[key]) for key in weights)


def test_a_half_of_a_step_goes_back_before_the_other_goes_forward(
    small_flow, encoded, monkeypatch
) -> None:
    """So that the memory for one of them is enough."""
    done: list[str] = []

    def told(owner: type, name: str) -> None:
        own = getattr(owner, name)
        spied = lambda *args, **kwargs: (done.append(name), own(*args, **kwargs))[1]  # noqa: E731
        monkeypatch.setattr(owner, name, spied)

    told(Objective, "erase_losses")
    told(Objective, "preserve_losses")
    told(optimizer.AdapterOptimizer, "backward")
    for solver in ("alternate", "budget"):
        train(small_flow, encoded, solver=solver, steps=1)
    assert done == 2 * ["erase_losses", "backward", "preserve_losses", "backward"]


def test_a_mean_of_squared_gradients_may_forget_sooner(small_flow, encoded) -> None:
    long, short = (train(small_flow, encoded, beta_2=beta_2).state for beta_2 in (0.999, 0.5))
    assert any(not torch.allclose(long[name], short[name], rtol=0.01) for name in long)


def hooks(backend: Any) -> int:
    return sum(len(layer._forward_hooks) for layer in backend.layers)


def test_raising_in_on_step_ends_the_training_without_a_trace(small_flow, encoded) -> None:
    seen: list[int] = []

    def on_step(report: StepReport) -> None:
        seen.append(hooks(small_flow))
        if report.step == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(small_flow, encoded, on_step=on_step)
    assert seen[-3:] == [4, 4, 4] and hooks(small_flow) == 0


def test_the_base_model_is_only_borrowed(small_flow, encoded) -> None:
    before = [layer.weight.clone() for layer in small_flow.layers]
    train(small_flow, encoded, steps=3)
    after = [layer.weight for layer in small_flow.layers]
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    assert all(layer.weight.grad is None for layer in small_flow.layers)
    assert hooks(small_flow) == 0


def test_on_step_hears_of_every_step(small_flow, encoded) -> None:
    reports: list[StepReport] = []
    erasure = train(small_flow, encoded, steps=4, on_step=reports.append)
    sampled = [report for report in reports if report.step == 0]
    assert sampled and not any(report.losses for report in sampled)
    reports = reports[len(sampled) :]
    assert [(report.step, report.total) for report in reports] == [(n, 4) for n in (1, 2, 3, 4)]
    for name, values in erasure.history.items():
        assert values == [report.losses[name] for report in reports]
    assert reports[-1].forwards == erasure.forwards
    assert all(report.gradient_norm > 0 for report in reports)


@pytest.mark.parametrize("solver", ["alternate", "budget"])
@pytest.mark.parametrize("numbers", [*RECIPES.values(), HINGE], ids=[*RECIPES, "hinge"])
def test_forwards_are_counted_exactly(small_flow, encoded, numbers, solver) -> None:
    """One for each sample through the model, and two more for its backward."""
    small = {name: getattr(FAST, name) for name in ("trajectories", "width", "height", "lora")}
    few = {"solver": solver, "steps": 3, "budget_every": 2, "trajectory_steps": 3}
    config = EraseConfig(**{**numbers, **few, **small})
    generator = torch.Generator().manual_seed(0)
    erasure = train_erasure(small_flow, encoded, config, generator=generator)
    assert (
        erasure.forwards == small_flow.samples == expected_forwards(encoded, config, guided=False)
    )


def test_passes_without_the_prompt_are_counted(small_flow, encoded) -> None:
    small_flow.cfg = 3.0
    erasure = train(small_flow, encoded, steps=2)
    expected = expected_forwards(encoded, replace(FAST, steps=2), guided=True)
    assert erasure.forwards == small_flow.samples == expected


def test_a_gradient_too_long_is_cut(small_flow, encoded) -> None:
    """Adam makes of one gradient the same step however long it is, but not of two."""
    cut, free = (
        train(small_flow, encoded, steps=4, gradient_clip=clip).state for clip in (1e-6, 0.0)
    )
    assert any(not torch.allclose(cut[key], free[key], rtol=1e-3) for key in cut)


def test_what_does_not_count_is_not_computed(small_flow, encoded) -> None:
    alone = train(small_flow, encoded, steps=2, weights=LossWeights(esd=1, keep=0))
    assert alone.history.keys() == {"esd"}
    without = train(small_flow, replace(encoded, contrast=None), steps=2)
    assert without.history.keys() == {"esd", "attention", "keep"}


def test_the_budget_presses_harder_while_the_drift_is_above_it(small_flow, encoded) -> None:
    options = {"solver": "budget", "budget_every": 2, "steps": 30}
    tight = train(small_flow, encoded, drift_budget=1e-3, **options).history
    loose = train(small_flow, encoded, drift_budget=100.0, **options).history
    assert tight["multiplier"][-1] > 10 and loose["multiplier"][-1] == 0
    assert ends(tight["keep"])[1] < 0.2 * ends(loose["keep"])[1]
    assert ends(tight["esd"])[1] > ends(loose["esd"])[1]  # what the pressure costs


def test_a_loss_that_is_not_finite_is_named_with_its_step(small_flow, encoded) -> None:
    def on_step(report: StepReport) -> None:
        if report.step == 2:
            small_flow.leave.bias.fill_(float("nan"))

    with pytest.raises(FloatingPointError, match=r"Got nan for the esd loss in step 3.*Lower the"):
        train(small_flow, encoded, on_step=on_step)
    assert hooks(small_flow) == 0


def test_blocks_that_are_watched_may_be_counted_from_the_end(small_flow, encoded) -> None:
    last, second, first = (
        train(small_flow, encoded, attention_blocks=blocks, steps=3).history["attention"]
        for blocks in ((-1,), (1,), (0,))
    )
    assert last == second != first


def test_other_words_keep_the_attention_that_they_would_lose(small_flow, encoded) -> None:
    """Token 0 is much like the concept's, which is token 1."""
    text = encoded.concept.text.clone()
    text[:, 0] = text[:, 1] + text[:, 3] / 2
    near = replace(encoded, concept=Conditioning.stacked(text, encoded.concept.pooled))

    def lost(others: float) -> float:
        found = train(
            small_flow,
            near,
            weights=LossWeights(esd=0.0, attention=1.0, keep=0.0),
            attention_others=others,
            steps=100,
            seed=2,  # at which it would lose much
        )
        return 1 - left_of_attention(small_flow, near, found, token=0)

    assert lost(0.0) > 0.3
    assert lost(5.0) < 0.5 * lost(0.0)


def left_of_attention(
    backend: Any, encoded: EncodedPrompts, found: Erasure, *, token: int
) -> float:
    """The mass on one token, after / before, on the concept's prompts."""
    x_t = torch.randn(len(encoded.concept), 4, 4, 4, generator=torch.Generator().manual_seed(3))
    slices = backend.linear_slices(backend.target_names(FAST.lora.targets))
    used = {name: part for name, part in slices.items() if f"{name}.alpha" in found.state}
    lora = LoraSet.from_state(used, found.state)

    def mass() -> float:
        request = AttentionCapture(torch.full((len(x_t), 1), token), (0, 1))
        backend.velocity(x_t, torch.full((len(x_t),), 0.5), encoded.concept, capture=request)
        return attention_mass(list(request.mass.values())).mean().item()

    with torch.no_grad(), lora.attach(used):
        after = mass()
        with lora.disabled():
            return after / mass()


def test_learning_rates_of_the_two_steps(small_flow, encoded) -> None:
    """The first moves the LoRA by `learning_rate`, the second by a share of it."""
    still = train(small_flow, encoded, learning_rate=1e-9, steps=1)
    assert max(v.abs().max() for k, v in still.state.items() if "lora_B" in k) < 1e-8
    once, half, full = (
        train(small_flow, encoded, keep_learning_rate_ratio=ratio, steps=2).state
        for ratio in (0.0, 0.5, 1.0)
    )
    key = next(key for key in once if "lora_B" in key)
    assert (half[key] - once[key]).norm() < (full[key] - once[key]).norm()


def test_a_wide_layers_a_learns_at_its_share_of_the_rate(small_flow, encoded) -> None:
    inputs = small_flow.layers_of[0]["to_q"].in_features

    def moved(rate_width: int) -> tuple[float, float]:
        """How far A's and B's have gone in three steps."""
        options = {"rate_width": rate_width, "gradient_clip": 0.0}
        start = train(small_flow, encoded, steps=1, **options).state  # A waits for B, which is 0
        end = train(small_flow, encoded, steps=3, **options).state
        far = {"lora_A": 0.0, "lora_B": 0.0}
        for key in start:
            for part in far:
                far[part] += float((end[key] - start[key]).square().sum()) if part in key else 0
        return far["lora_A"] ** 0.5, far["lora_B"] ** 0.5

    full, quarter = moved(0), moved(inputs // 4)
    assert quarter[0] / full[0] == pytest.approx(0.25, rel=0.1)
    assert quarter[1] / full[1] == pytest.approx(1, rel=0.1)
    assert moved(2 * inputs) == full  # a narrow one does not learn faster
