"""The paper's schedule: a path for each state, four for each contrast, and pictures to keep."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Generator, Tensor
from training_runs import CONFIG, PAPER, equal, some_pictures, train

from erase_engine.config import EraseConfig, LossWeights
from erase_engine.interfaces import Conditioning
from erase_engine.lora.adapters import LoraSet
from erase_engine.training.cost import cost_in_words, expected_forwards
from erase_engine.training.encoded_prompts import EncodedPrompts
from erase_engine.training.loop import (
    Erasure,
    train_erasure,
)
from erase_engine.training.states.cached import CachedStates
from erase_engine.training.states.fresh import FreshStates
from erase_engine.training.states.pictures import check_pictures_count
from erase_engine.training.teacher import (
    CountedModel,
    ForwardCount,
    Trajectories,
    cache_all_trajectories,
)

SMALL = replace(CONFIG, **PAPER)


class Fresh:
    """Fresh states of a student that is not its teacher any more."""

    def __init__(self, backend: Any, encoded: EncodedPrompts) -> None:
        self.model = CountedModel(backend, encoded, SMALL, ForwardCount(0))
        self.slices = backend.linear_slices(backend.target_names("text_qk"))
        self.lora = LoraSet(self.slices, rank=2, generator=Generator().manual_seed(3))
        for up in self.lora.parameters()[1::2]:
            up.data.normal_(generator=Generator().manual_seed(4))
        self.passes = 0
        self.states = FreshStates(self.model, self.lora, Trajectories(None, None), self.on_pass)  # type: ignore[arg-type]

    def on_pass(self) -> None:
        self.passes += 1

    def sampled(self, cond: Conditioning, noise: Tensor) -> list[Tensor]:
        """Every state of a path, written down once more."""
        states = [noise]
        for t, t_next in pairwise(self.model.times):
            v = self.model.backend.velocity(states[-1], t.expand(len(noise)), cond)
            states.append(states[-1] + (t_next - t) * v)
        return states


@pytest.fixture
def fresh(small_flow, encoded) -> Fresh:
    return Fresh(small_flow, encoded)


@torch.no_grad()
def test_erase_states_lie_on_the_students_own_paths_and_the_teacher_answers(fresh: Fresh) -> None:
    with fresh.lora.attach(fresh.slices):
        batch = fresh.states.erase(6, Generator().manual_seed(0))
        generator = Generator().manual_seed(0)
        rows = torch.randint(3, (6,), generator=generator)
        torch.randint(4, (6,), generator=generator)
        cond, noise = fresh.model.encoded.concept.take(rows), fresh.model.noise(6, generator)
        student = torch.stack(fresh.sampled(cond, noise), 1)
        with fresh.lora.disabled():
            teacher = torch.stack(fresh.sampled(cond, noise), 1)
            v = fresh.model.backend.velocity(batch.x_t, batch.t, cond)
    at = torch.stack([(fresh.model.times == t).nonzero()[0, 0] for t in batch.t])
    own, others = (path[torch.arange(6), at] for path in (student, teacher))
    torch.testing.assert_close(batch.x_t, own)
    assert len(set(batch.t.tolist())) > 1 and not torch.allclose(own, others, rtol=0.01)
    torch.testing.assert_close(batch.teacher_velocity[:, 0], v)
    assert fresh.passes == 4  # a call for each step of the paths, of six samples


@torch.no_grad()
def test_keep_states_are_the_teachers(fresh: Fresh) -> None:
    with fresh.lora.attach(fresh.slices):
        batch = fresh.states.keep(6, Generator().manual_seed(0))
        with fresh.lora.disabled():
            again = fresh.states.keep(6, Generator().manual_seed(0))
            cond = fresh.model.encoded.keep.take(batch.rows)
            v = fresh.model.backend.velocity(batch.x_t, batch.t, cond)
    assert torch.equal(batch.x_t, again.x_t)
    torch.testing.assert_close(batch.teacher_velocity[:, 0], v)


@torch.no_grad()
def test_words_at_cached_states_are_read_without_the_lora(fresh: Fresh) -> None:
    model, contrast, rows = fresh.model, fresh.model.encoded.contrast, torch.tensor([2, 0])
    assert contrast is not None
    place = model.noise(2, Generator().manual_seed(0)), torch.tensor([0.5, 0.5])
    one = SimpleNamespace(x_t=place[0], t=place[1], rows=rows)
    bank = Trajectories(SimpleNamespace(draw=lambda *given: one), None)  # type: ignore[arg-type]
    states = CachedStates(model, fresh.lora, bank, fresh.on_pass)  # type: ignore[arg-type]
    synonym = (*place, contrast.synonym, contrast.synonym_tokens, rows)
    with fresh.lora.attach(fresh.slices):
        found, student = states.contrast(2, Generator()).synonym, model.feature(*synonym)
    teacher = model.feature(*synonym)
    torch.testing.assert_close(found, teacher)
    assert (student - teacher).abs().max() > 1e-3


@torch.no_grad()
def test_each_word_is_read_on_a_sampling_of_its_own_from_one_noise(fresh: Fresh) -> None:
    contrast, model = fresh.model.encoded.contrast, fresh.model
    assert contrast is not None
    k = contrast.per_pair
    with fresh.lora.attach(fresh.slices):
        found = fresh.states.contrast(2, Generator().manual_seed(0))
    assert fresh.passes == (1 + k) * CONFIG.trajectory_steps
    generator = Generator().manual_seed(0)
    rows = torch.randint(3, (2,), generator=generator)
    torch.randint(4, (), generator=generator)
    noise = model.noise(2, generator)
    step = (model.times == found.t[0]).nonzero()[0, 0]
    assert torch.equal(found.rows, rows) and len(set(found.t.tolist())) == 1
    x_t = fresh.sampled(contrast.synonym.take(rows), noise)[step]
    torch.testing.assert_close(found.x_t, x_t)
    synonym = model.feature(x_t, found.t, contrast.synonym, contrast.synonym_tokens, rows)
    torch.testing.assert_close(found.synonym, synonym)
    for each in range(k):
        own = rows * k + each
        x_t = fresh.sampled(contrast.irrelevant.take(own), noise)[step]
        tokens = contrast.irrelevant_tokens
        read = model.feature(x_t, found.t, contrast.irrelevant, tokens, own)
        torch.testing.assert_close(found.irrelevant[:, each], read)


def started(backend: Any, encoded: EncodedPrompts, **changes: Any) -> Trajectories:
    """What a training begins with."""
    model = CountedModel(backend, encoded, replace(SMALL, **changes), ForwardCount(0))
    return cache_all_trajectories(model, generator=Generator(), on_pass=lambda: None)


@pytest.mark.parametrize("sampling", ["fresh", "cached"])
def test_pictures_show_the_keep_prompts_in_order_over_and_over(
    small_flow, encoded, sampling: str
) -> None:
    given = replace(encoded, pictures=some_pictures(6))
    pictures = started(small_flow, given, sampling=sampling).pictures
    assert pictures is not None and torch.equal(pictures.latents, given.pictures)
    assert pictures.rows.tolist() == [0, 1, 2, 3, 0, 1]  # of four keep prompts
    batch = pictures.draw(200, Generator().manual_seed(1))
    noisy = (1 - batch.t)[:, None, None, None] * batch.x_0
    torch.testing.assert_close(batch.x_t - noisy, batch.t[:, None, None, None] * batch.noise)
    for x_0, row in zip(batch.x_0, batch.rows, strict=True):
        assert any(torch.equal(x_0, pictures.latents[i]) for i in (row, row + 4) if i < 6)
    assert batch.t.min() < 0.1 and batch.t.max() > 0.9


@torch.no_grad()
def test_without_any_the_teacher_draws_them(fresh: Fresh, small_flow, encoded) -> None:
    pictures = started(small_flow, encoded).pictures
    assert pictures is not None and sorted(pictures.rows.tolist()) == [0, 1, 2, 3]
    last = torch.cat(
        [fresh.sampled(encoded.keep.take([r]), n)[-1] for r, n in drawn_from(pictures)]
    )
    torch.testing.assert_close(pictures.latents, last)


def drawn_from(pictures: Any) -> list[tuple[int, Tensor]]:
    """Each picture's prompt, and its noise: random numbers in the order in which they are used."""
    generator = Generator()
    torch.randn(1, 4, 4, 4, generator=generator)  # by which the model is known again
    torch.randperm(3, generator=generator)
    torch.randperm(4, generator=generator)
    noise = torch.randn(4, 4, 4, 4, generator=generator)
    return [(int(row), one[None]) for row, one in zip(pictures.rows, noise, strict=True)]


def test_pictures_of_another_size_are_named(small_flow, encoded) -> None:
    for wrong in (torch.zeros(2, 4, 8, 4), torch.zeros(0, 4, 4, 4), torch.zeros(1, 3, 4, 4)):
        with pytest.raises(
            ValueError, match=r"pictures to keep, expected one or more of \(4, 4, 4"
        ):
            train(small_flow, replace(encoded, pictures=wrong), **PAPER)


def test_pictures_that_no_loss_looks_at_are_refused() -> None:
    check_pictures_count(EraseConfig.from_recipe("paper"))
    with pytest.raises(
        ValueError, match=r"Got pictures to keep with the recipe fast.*recipe paper"
    ):
        check_pictures_count(EraseConfig.from_recipe("fast"))


def test_a_fitted_model_draws_the_pictures_better(small_flow, encoded) -> None:
    """L_lora alone, on one picture under one prompt."""
    given = replace(encoded, pictures=some_pictures(1))
    weights = LossWeights(esd=1e-6, keep=0.0, reconstruction=1.0)
    few = {"steps": 60, "keep_per_step": 8, "cooldown": 0.0, "sampling": "cached"}
    history = train(small_flow, given, weights=weights, **few).history["reconstruction"]
    assert sum(history[-10:]) < 0.9 * sum(history[:10])


def test_all_four_losses_are_trained(small_flow, encoded) -> None:
    found = train(small_flow, encoded, **PAPER)
    assert found.history.keys() == {"esd", "attention", "reconstruction", "rsc"}
    without = replace(PAPER["weights"], reconstruction=0.0)
    other = train(small_flow, encoded, **{**PAPER, "weights": without})
    assert not equal(found, other) and "reconstruction" not in other.history


@pytest.mark.parametrize("solver", ["alternate", "budget"])
@pytest.mark.parametrize("sampling", ["fresh", "cached"])
@pytest.mark.parametrize("pictures", [None, 3])
def test_given_pictures_cost_no_passes(small_flow, encoded, sampling, solver, pictures) -> None:
    if pictures:
        encoded = replace(encoded, pictures=some_pictures(pictures))
    weights = replace(PAPER["weights"], keep=1.0)
    changes = {"sampling": sampling, "solver": solver, "weights": weights, "steps": 4}
    found = train(small_flow, encoded, **changes)
    expected = expected_forwards(encoded, replace(CONFIG, **changes), guided=False)
    assert found.forwards == small_flow.samples == expected


def test_the_release_takes_some_15_100_passes(encoded) -> None:
    """33 for an erase step and 118 for a preserve step with three irrelevant words."""
    paper, contrast = EraseConfig.from_recipe("paper"), encoded.contrast
    irrelevant = Conditioning(3 * contrast.synonym.prompts)
    given = replace(encoded, contrast=replace(contrast, irrelevant=irrelevant))
    start = 2 + paper.paths * paper.trajectory_steps
    assert paper.steps == 100 and paper.batch == paper.keep_per_step == 1
    assert expected_forwards(given, paper, guided=False) == 15_100 + start
    shown = replace(given, pictures=some_pictures(5))
    assert expected_forwards(shown, paper, guided=False) == 15_102
    assert cost_in_words(shown, paper, guided=False) == (
        "It takes 15,102 passes of the model, 1.1 times those of the recipe fast (at most 13,568). "
        "A picture of 20 steps takes 20."
    )
    fast = cost_in_words(shown, EraseConfig.from_recipe("fast"), guided=False)
    assert fast == (
        "It takes at most 13,568 passes of the model. Simple words need only 432 or 1,136. "
        "A picture of 20 steps takes 20."
    )
    hardened = cost_in_words(shown, EraseConfig.from_recipe("hardened"), guided=False)
    assert hardened == (
        "It takes at most 17,408 passes of the model, 1.3 times those of the recipe fast (at most "
        "13,568). Simple words need only 1,744. A picture of 20 steps takes 20."
    )
    several = replace(shown, concepts=2)  # made as by fast, and not hardened
    for recipe in ("fast", "hardened"):
        assert cost_in_words(several, EraseConfig.from_recipe(recipe), guided=False) == (
            "It takes at most 8,768 passes of the model. A picture of 20 steps takes 20."
        )


def test_a_family_that_samplers_guide_says_so_of_distilled_models(encoded) -> None:
    for recipe, told in (("fast", True), ("paper", True), ("instant", False)):
        config = EraseConfig.from_recipe(recipe)
        assert ("was distilled" in cost_in_words(encoded, config, guided=True)) == told
        assert "was distilled" not in cost_in_words(encoded, config, guided=False)


@pytest.mark.parametrize(("soft", "passes"), [(False, 432), (True, 1136)])
def test_a_concept_that_a_closed_form_erases_takes_few(encoded, soft: bool, passes: int) -> None:
    left = EraseConfig.from_recipe("fast").after_solving(solved=True, soft=soft)
    assert expected_forwards(encoded, left, guided=False) == passes


def test_the_recipe_in_small_gives_one_lora_for_one_seed(small_flow, encoded) -> None:
    def trained(seed: int) -> Erasure:
        config = EraseConfig.from_recipe("paper", steps=3, trajectory_steps=3, width=32, height=32)
        generator = Generator().manual_seed(seed)
        return train_erasure(small_flow, encoded, config, generator=generator)

    one, same, other = (trained(seed) for seed in (0, 0, 1))
    assert equal(one, same) and not equal(one, other)
